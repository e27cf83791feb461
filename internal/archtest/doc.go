// Package archtest checks rules of this repository that the compiler does not know. It has nothing but tests.
//
// Of the code: which package may import which, where unsafe code and system calls by number may stand, that nothing keeps a
// turn, that every package is explained. docs/design.md says why the rules are as they are.
//
// Of README.md and docs/: that each page is linked, that links lead somewhere, and that what is named exists. In a code
// span, `pkg: Type.member, other` names things of a package, and `Type.member` things of any; `snake_case` is a counter
// or another word of the source; --options are those of the command. Quoted messages of the program are either lines of
// the log, of which msg="..." is checked, or stand behind the comment <!-- messages -->: all code spans of the paragraph
// that follows, or those in the first column of the table. Three dots stand for anything.
package archtest
