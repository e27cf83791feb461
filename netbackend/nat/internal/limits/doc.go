// Package limits is of what a guest can have too much: what each limit is called, where hits on it are counted, how often the user is
// told of one, and how much slow work a guest may ask for in a second.
//
// What does not belong here: who asks, what is dropped for it, and how many flows there may be (package nat).
package limits
