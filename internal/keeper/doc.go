// Package keeper keeps what is changed while guests are served, so that the next start begins with it: [Keeper].
//
// What is kept is the whole difference between what the file or the flags say and what runs, each time. Many changes that come at once are kept by one
// write, and each is kept when the write has ended that began after it.
//
// What does not belong here: how a state is written as text (package configfile), and how the text reaches the disk (package broker).
package keeper
