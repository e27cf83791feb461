// Package quota divides among guests what the host has only once, such as the places of its resolver.
//
// What does not belong here: what is divided, and who learns that nothing is left (package nat); rates (package ratelimit).
package quota
