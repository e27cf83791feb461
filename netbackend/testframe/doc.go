// Package testframe is frames that tell what becomes of them: a header with number, time and length behind the Ethernet header, and the
// check of those that come back. It finds frames that are missing, came late, came twice, or were changed, and how long they took.
//
// What a frame says is believed only as far as its check word is right, and a guest can make that, too: whatever comes, counting takes
// the same time and memory.
//
// What does not belong here: rings, and who sends frames at what rate (package stub).
package testframe
