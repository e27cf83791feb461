// Package ratelimit limits how often something may happen.
//
// A Bucket holds as many events as may come at once, and fills at a constant rate. It remembers one number only, when it will be full
// again (the generic cell rate algorithm of ITU-T I.371), so threads share it without a lock. What is limited, and what happens to
// what is over the limit, is for the caller.
package ratelimit
