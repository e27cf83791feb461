// Package logplace is where the files of a log are: in one directory, which is held open, with names of one family. A [Place] opens such a
// file for lines that are added to it, and moves one that is full to the name of the file before.
//
// What is in the files is not known here.
package logplace
