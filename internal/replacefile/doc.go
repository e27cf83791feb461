// Package replacefile gives a file another content, so that whoever reads it finds the old one or the new one, whole, whenever the writing
// process or the machine stops ([Replace]).
//
// What the bytes mean is not known here.
package replacefile
