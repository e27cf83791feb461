package instructions

import (
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"

	"github.com/vringnet/vring/bench/singlestep"
)

// listFunctions prints how many instructions of one turn of a row are in which function, most first. What the compiler has
// inlined is in the function that it stands in.
func listFunctions(ctx context.Context, name, row string, stdout, progress io.Writer) error {
	return withTurns(ctx, name, progress, func(program string) error {
		symbols, err := functionsOf(program)
		if err != nil {
			return err
		}
		where := map[string]int{}
		err = countRows(program, func(c *counter) error {
			least, err := c.least(row)
			if err != nil {
				return err
			}
			for i, n := 0, 0; i < trials && n != least; i++ { // a turn that is as short as the least
				clear(where)
				n, err = c.trial(row, func(pc uint64) { where[symbols.name(pc)]++ })
				if err != nil && !errors.Is(err, singlestep.ErrStuck) {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		return printFunctions(stdout, where)
	})
}

func printFunctions(w io.Writer, where map[string]int) error {
	names := make([]string, 0, len(where))
	for name := range where {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(where[b]-where[a], cmp.Compare(a, b)) })
	for _, name := range names {
		if _, err := fmt.Fprintf(w, "%7d %s\n", where[name], name); err != nil {
			return err
		}
	}
	return nil
}

// symbols are the functions of a program, by address.
type symbols []elf.Symbol

func functionsOf(program string) (symbols, error) {
	file, err := elf.Open(program)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	all, err := file.Symbols()
	if err != nil {
		return nil, fmt.Errorf("symbols of %s: %w", program, err)
	}
	all = slices.DeleteFunc(all, func(s elf.Symbol) bool { return elf.ST_TYPE(s.Info) != elf.STT_FUNC })
	slices.SortFunc(all, func(a, b elf.Symbol) int { return cmp.Compare(a.Value, b.Value) })
	return all, nil
}

// name returns the function that has an address.
func (s symbols) name(pc uint64) string {
	i := sort.Search(len(s), func(i int) bool { return s[i].Value > pc }) - 1
	if i < 0 || pc >= s[i].Value+s[i].Size {
		return "outside of the program"
	}
	return s[i].Name
}
