// Package replacefile gives a file another content, so that whoever reads it finds the old one or the new one, whole, whenever the writing
// process or the machine stops: [Replace] does so once, beside others who may write the file; a [Place] again and again, for the one
// process that has it.
//
// What the bytes mean is not known here.
package replacefile
