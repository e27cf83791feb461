// Package bootroot opens files beneath a directory of files that guests boot from. A name never leads out of the directory: no link is
// followed, and no part of it is "..". What is not a regular file is not opened.
//
// The directory is opened once. Files are opened part by part from there, by openat, which is what a sandbox can allow for reading only.
package bootroot
