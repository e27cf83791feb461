package stub

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/vringnet/vring/netbackend"
)

// maxSizes is how many lengths the frames of a Source may have in turn.
const maxSizes = 64

// SizesForm is what ParseSizes reads.
const SizesForm = "imix, or lengths in bytes, as in 60,1514"

// IMIX is a mix of lengths that is usual for measuring: seven frames of 60 bytes, four of 590 and one of 1514. On a wire, where a
// checksum of four bytes is added, these are 64, 594 and 1518.
func IMIX() []int { return []int{60, 590, 60, 60, 590, 60, 1514, 60, 590, 60, 590, 60} }

// ParseSizes reads SizesForm: the lengths of frames, in turn.
func ParseSizes(text string) (sizes []int, err error) {
	if text == "imix" {
		return IMIX(), nil
	}
	for _, word := range strings.Split(text, ",") {
		n, err := strconv.Atoi(word)
		if err != nil {
			return nil, fmt.Errorf("%q: %q is no length; want %s", text, word, SizesForm)
		}
		sizes = append(sizes, n)
	}
	return sizes, nil
}

// checkSizes returns what is wrong with the lengths of frames.
func checkSizes(sizes []int) error {
	if len(sizes) == 0 {
		return errors.New("frames of no length")
	}
	if len(sizes) > maxSizes {
		return fmt.Errorf("frames of %d lengths: want at most %d", len(sizes), maxSizes)
	}
	for _, n := range sizes {
		if n < netbackend.MinFrame || n > maxFrame {
			return fmt.Errorf("frames of %d bytes: want %d to %d", n, netbackend.MinFrame, maxFrame)
		}
	}
	return nil
}
