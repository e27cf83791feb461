// Package guestmem maps guest memory.
package guestmem
