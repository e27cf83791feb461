package rings

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/vringnet/vring/integration/lab/testpmd"
)

// hugePageCount is the kernel's setting, see Documentation/admin-guide/mm/hugetlbpage.rst of Linux.
const hugePageCount = "/proc/sys/vm/nr_hugepages"

// setAsideHugePages makes room for two testpmds, if there is none, until restore is called.
func setAsideHugePages() (restore func() error, err error) {
	const needed = 2*testpmd.HugePagesNeeded + 8
	before, err := readHugePages()
	if err != nil || before >= needed {
		return func() error { return nil }, err
	}
	restore = func() error { return writeHugePages(before) }
	if err := writeHugePages(needed); err != nil {
		return restore, err
	}
	// The kernel sets aside what it finds, and calls that a success.
	if now, err := readHugePages(); err != nil || now < needed {
		return restore, fmt.Errorf("only %d of %d huge pages could be had (%v)", now, needed, err)
	}
	return restore, nil
}

func readHugePages() (int, error) {
	text, err := os.ReadFile(hugePageCount)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

func writeHugePages(n int) error {
	return os.WriteFile(hugePageCount, []byte(strconv.Itoa(n)), 0)
}
