// Package servicemanager tells a service manager such as systemd how the service is (sd_notify(3)): that it is ready, and that
// it stops.
//
// What does not belong here: what being ready means, and sockets that a manager has opened.
package servicemanager
