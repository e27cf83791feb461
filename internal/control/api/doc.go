// Package api has the requests and answers of the control socket, which its server (package control) and its clients share. How
// they are written as JSON is a promise: fields may be added, and none changes its name or meaning below /v1.
//
// What does not belong here: how they are carried, and what they bring about.
package api
