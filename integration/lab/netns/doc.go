// Package netns makes network namespaces: the hosts, wires and bridges of a test, in which it may do as it likes. A
// namespace has no name in the file system. It lives as long as this process holds it, or anything runs in it: whatever
// becomes of a test, nothing stays behind.
//
// Networks are set up by the commands of iproute2, as a user would type them. Making a namespace needs CAP_SYS_ADMIN.
// A Namespace may be used by several goroutines.
package netns
