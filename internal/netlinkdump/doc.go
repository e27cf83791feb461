// Package netlinkdump asks the kernel for lists by netlink until a list is whole. The kernel gives a long list in parts, and marks it if
// something has changed between two of them (NLM_F_DUMP_INTR): such a list may lack what was there all the time.
package netlinkdump
