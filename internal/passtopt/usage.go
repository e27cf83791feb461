package passtopt

// Usage is what --help prints: all options that are taken.
func Usage() string {
	return `Usage: passt [OPTION]...

This is vring under passt's command line.

` + OptionList + "  -h, --help                       help for passt\n"
}

// OptionList has one option a line.
const OptionList = `      --vhost-user                 speak vhost-user with the front end (default: QEMU's stream protocol)
  -s, --socket PATH                listen at this unix socket (default: /tmp/passt_1.socket, or the next free one)
      --socket-path PATH           the same
  -F, --fd FD                      use this connected socket; implies --one-off
  -1, --one-off                    end when the front end has gone
  -f, --foreground                 stay in the foreground
  -P, --pid FILE                   write the number of the process to this file when the guest can be served
  -q, --quiet                      print less
  -d, --debug                      print more
      --trace                      the same
  -l, --log-file FILE              print to this file
      --log-size BYTES             begin the file anew if it is longer at the start (default: 1 MiB)
  -m, --mtu MTU                    tell the guest this MTU, 0 for none (default: 65520)
  -a, --address ADDR[/BITS]        the guest's address, one of IPv4 and one of IPv6 (default: the host's)
  -n, --netmask MASK               mask of IPv4, or its bits
  -g, --gateway ADDR               the guest's router (default: the host's)
  -i, --interface NAME             interface whose addresses the guest gets (default: that of the default route)
  -M, --mac-addr MAC               Ethernet address of the router
  -D, --dns ADDR                   name server of the guest, or none (default: those of resolv.conf)
  -S, --search LIST                search domains of the guest, or none (default: those of resolv.conf)
  -H, --hostname NAME              name that DHCP tells the guest
      --fqdn NAME                  whole name that DHCP tells the guest
      --no-dhcp-dns                do not tell of name servers
      --no-dhcp-search             do not tell of search domains
      --dns-forward ADDR           pass queries to this address on to a resolver
      --dns-host ADDR              resolver of the host that they go to (default: those of resolv.conf)
      --map-host-loopback ADDR     address that leads to the host's loopback, or none (default: the router's)
      --no-map-gw                  no address leads to the host's loopback
      --map-guest-addr ADDR        address that leads to the host's address that the guest has, too, or none
      --no-tcp                     no TCP
      --no-udp                     no UDP
      --no-icmp                    no pings, and no neighbour discovery
      --no-dhcp                    no DHCP
      --no-dhcpv6                  no DHCPv6
      --no-ndp                     no neighbour discovery
      --no-ra                      no router advertisements
  -4, --ipv4-only                  IPv4 only
  -6, --ipv6-only                  IPv6 only
  -t, --tcp-ports SPEC             forward ports of TCP: none, or [ADDR][%IF]/ and a list of PORT[-LAST][:[ADDR/]PORT[-LAST]], ~PORT[-LAST], all
  -u, --udp-ports SPEC             the same for UDP
      --freebind                   forwards may be of addresses that the host does not have yet
  -o, --outbound ADDR              leave the host with this source address; once for each version of IP
      --outbound-if4 NAME          leave the host by this interface with IPv4, or not at all
      --outbound-if6 NAME          the same with IPv6
      --runas USER[:GROUP]         serve as this user, by name or number, where root starts it (default: vring, else nobody)
  -c, --conf-path PATH             accepted: no socket is made
      --repair-path PATH           accepted: no socket is made
      --stats SECONDS              accepted: nothing is printed
  -p, --pcap FILE                  write all frames of the guest to this file (pcap)
      --vring-option KEY=VALUE     an option of vring nat
      --print-capabilities         print the capabilities of this back end as JSON, and exit
      --version                    print the version, and exit
`
