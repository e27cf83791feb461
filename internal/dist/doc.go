// Dist makes what users install: for each architecture a static binary, a Debian package, an OCI image as a tar archive and a bill
// of materials (CycloneDX), and the checksums of all of them.
//
// Two runs on the same commit with the same Go make the same bytes. So no file has a time of its own (all have that of the commit),
// directories are written in order, and paths of this machine are left out of the binary.
//
// It runs in the project's root, and needs go, git and dpkg-deb.
package main
