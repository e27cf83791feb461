// Package spelling finds the name that somebody meant who wrote another one.
//
// What the names are of, and how a mistake is told, is not known here.
package spelling
