// Package top shows a vring that serves guests as a page in a terminal: its guests and their traffic, the flows of one of them, what was
// counted, and its forwards.
//
// The page is a client of the control socket, with no logic of its own: it asks each second, and what can be done by its keys can be done
// by vring ctl. What does not belong here: how the socket is found, and what is printed for programs.
package top
