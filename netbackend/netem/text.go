package netem

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Form is how a link is written, for messages.
const Form = "[PRESET,][in:|out:]KEY=VALUE,..., as in delay=40ms,jitter=5ms,loss=1%,rate=10mbit, or lte,in:rate=20mbit"

// None is how a link is written that is not emulated.
const None = "none"

// key is a key of a direction's text form.
type key struct {
	name string
	want string
	read func(d *Direction, value string) bool
	text func(d *Direction) string // "" for what it is by default
}

// keys are all keys, in the order in which they are written.
func keys() []key {
	return []key{
		{"rate", "a number of bits per second with kbit, mbit or gbit, as in 10mbit",
			func(d *Direction, v string) bool { return readRate(v, &d.Rate) }, func(d *Direction) string { return nonZero(d.Rate, rateText(d.Rate)) }},
		{"burst", "a number of bytes, as in 15000 or 64KiB",
			func(d *Direction, v string) bool { return readBytes(v, &d.Burst) }, func(d *Direction) string { return nonZero(d.Burst, bytesText(d.Burst)) }},
		{"delay", "a time, as in 40ms or 1.5s",
			func(d *Direction, v string) bool { return readTime(v, &d.Delay) }, func(d *Direction) string { return nonZero(d.Delay, timeText(d.Delay)) }},
		{"jitter", "a time, as in 5ms",
			func(d *Direction, v string) bool { return readTime(v, &d.Jitter) }, func(d *Direction) string { return nonZero(d.Jitter, timeText(d.Jitter)) }},
		{"loss", wantShare,
			func(d *Direction, v string) bool { return readShare(v, &d.Loss) }, func(d *Direction) string { return nonZero(d.Loss, d.Loss.String()) }},
		{"loss-burst", "a number of frames, as in 5",
			func(d *Direction, v string) bool { return readNumber(v, &d.LossBurst) }, func(d *Direction) string { return nonZero(d.LossBurst, strconv.Itoa(d.LossBurst)) }},
		{"gemodel", "the chances to get bad and to get good, and the losses in the bad and in the good state, as in 1%/20%/100%/0%; the last two can be left out",
			func(d *Direction, v string) bool { return d.Gilbert.read(v) }, func(d *Direction) string { return nonZero(d.Gilbert, d.Gilbert.String()) }},
		{"duplicate", wantShare,
			func(d *Direction, v string) bool { return readShare(v, &d.Duplicate) }, func(d *Direction) string { return nonZero(d.Duplicate, d.Duplicate.String()) }},
		{"corrupt", wantShare,
			func(d *Direction, v string) bool { return readShare(v, &d.Corrupt) }, func(d *Direction) string { return nonZero(d.Corrupt, d.Corrupt.String()) }},
		{"reorder", wantShare,
			func(d *Direction, v string) bool { return readShare(v, &d.Reorder) }, func(d *Direction) string { return nonZero(d.Reorder, d.Reorder.String()) }},
		{"reorder-by", "a time, as in 10ms",
			func(d *Direction, v string) bool { return readTime(v, &d.ReorderBy) }, func(d *Direction) string { return nonZero(d.ReorderBy, timeText(d.ReorderBy)) }},
		{"queue", "a number of frames, as in 100",
			func(d *Direction, v string) bool { return readNumber(v, &d.Queue) }, func(d *Direction) string { return nonZero(d.Queue, strconv.Itoa(d.Queue)) }},
		{"queue-bytes", "a number of bytes, as in 256KiB",
			func(d *Direction, v string) bool { return readBytes(v, &d.QueueBytes) }, func(d *Direction) string { return nonZero(d.QueueBytes, bytesText(d.QueueBytes)) }},
	}
}

const (
	wantShare = "a share of frames with %, as in 1% or 0.5%"
	seedKey   = "seed"
)

func nonZero[T comparable](v T, text string) string {
	var zero T
	if v == zero {
		return ""
	}
	return text
}

// Parse reads a link: [Form], or [None]. It is checked as [Link.Check] does.
func Parse(text string) (Link, error) {
	if len(text) > maxTextLen {
		return Link{}, fmt.Errorf("the link has %d characters, and %d is the most", len(text), maxTextLen)
	}
	if text == None {
		return Link{}, nil
	}
	p := parser{keys: keys(), given: map[string]bool{}}
	for i, item := range strings.Split(text, ",") {
		if err := p.item(item, i == 0); err != nil {
			return Link{}, err
		}
	}
	return p.link, p.link.Check()
}

// parser reads the items of a link.
type parser struct {
	keys  []key
	link  Link
	given map[string]bool // keys, with the direction before them
}

// item reads one item. The first one may be a preset.
func (p *parser) item(item string, first bool) error {
	name, value, isPair := strings.Cut(item, "=")
	if !isPair {
		return p.preset(item, first)
	}
	in, out := true, true
	if rest, is := strings.CutPrefix(name, "in:"); is {
		name, out = rest, false
	} else if rest, is := strings.CutPrefix(name, "out:"); is {
		name, in = rest, false
	}
	if name == seedKey {
		return p.seed(value, in && out)
	}
	i := slices.IndexFunc(p.keys, func(k key) bool { return k.name == name })
	if i < 0 {
		return fmt.Errorf("a link has no %s; it has %s", short(name), strings.Join(p.names(), ", "))
	}
	k := &p.keys[i]
	for _, way := range []struct {
		is   bool
		name string
		d    *Direction
	}{{in, "in", &p.link.In}, {out, "out", &p.link.Out}} {
		if !way.is {
			continue
		}
		if at := way.name + ":" + name; p.given[at] {
			return fmt.Errorf("%s is given twice; write it once, or once with in: and once with out: before it", name)
		} else {
			p.given[at] = true
		}
		if !k.read(way.d, value) {
			return fmt.Errorf("%s=%s: want %s", name, short(value), k.want)
		}
	}
	return nil
}

// names are those of all keys.
func (p *parser) names() (all []string) {
	for _, k := range p.keys {
		all = append(all, k.name)
	}
	return append(all, seedKey)
}

func (p *parser) seed(value string, both bool) error {
	n, err := strconv.ParseUint(value, 10, 64)
	switch {
	case !both:
		return errors.New("seed is one for both directions; write it without in: or out: before it")
	case p.given[seedKey]:
		return errors.New("seed is given twice; write it once")
	case err != nil || n == 0:
		return fmt.Errorf("seed=%s: want a number from 1 to 18446744073709551615", short(value))
	}
	p.given[seedKey], p.link.Seed = true, n
	return nil
}

func (p *parser) preset(name string, first bool) error {
	for _, preset := range Presets() {
		if preset.Name == name {
			if !first {
				return fmt.Errorf("%s is a preset, which stands before all else; write it first", name)
			}
			p.link = preset.Link
			return nil
		}
	}
	if name == "" {
		return fmt.Errorf("an item of the link is empty; want %s", Form)
	}
	return fmt.Errorf("%s is no preset, nor KEY=VALUE; presets are %s, and keys %s", short(name), strings.Join(presetNames(), ", "), strings.Join(p.names(), ", "))
}

// short is a part of a text that a message quotes.
func short(text string) string {
	if len(text) > maxUnknownInErrors {
		return strconv.Quote(text[:maxUnknownInErrors] + "...")
	}
	return strconv.Quote(text)
}

// String returns the text of which Parse reads the link.
func (l Link) String() string {
	var items []string
	for _, k := range keys() {
		in, out := k.text(&l.In), k.text(&l.Out)
		if in == out {
			if in != "" {
				items = append(items, k.name+"="+in)
			}
			continue
		}
		if in != "" {
			items = append(items, "in:"+k.name+"="+in)
		}
		if out != "" {
			items = append(items, "out:"+k.name+"="+out)
		}
	}
	if len(items) == 0 {
		return None
	}
	if l.Seed != 0 {
		items = append(items, seedKey+"="+strconv.FormatUint(l.Seed, 10))
	}
	return strings.Join(items, ",")
}

// String writes a share in percent.
func (s Share) String() string {
	text := fmt.Sprintf("%d.%07d", s/shareOfOnePercent, s%shareOfOnePercent)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".") + "%"
}

// String writes the model as gemodel has it.
func (g GilbertElliott) String() string {
	return g.ToBad.String() + "/" + g.ToGood.String() + "/" + g.Bad.String() + "/" + g.Good.String()
}

// read reads the model: chances first, then losses, which are 100 % and 0 % if they are left out.
func (g *GilbertElliott) read(text string) bool {
	*g = GilbertElliott{Bad: whole}
	parts := strings.Split(text, "/")
	shares := []*Share{&g.ToBad, &g.ToGood, &g.Bad, &g.Good}
	if len(parts) < 2 || len(parts) > len(shares) {
		return false
	}
	for i, part := range parts {
		if !readShare(part, shares[i]) {
			return false
		}
	}
	return true
}

// readShare reads a share in percent.
func readShare(text string, s *Share) bool {
	number, isPercent := strings.CutSuffix(text, "%")
	n, ok := readDecimal(number, decimalsOfPercent)
	if !isPercent || !ok || n > uint64(whole) {
		return false
	}
	*s = Share(n)
	return true
}

// readDecimal reads a number that is not negative, times 10 to the power of decimals. It has no more decimals than that.
func readDecimal(text string, decimals int) (uint64, bool) {
	before, after, _ := strings.Cut(text, ".")
	digits := before + after
	if before == "" || len(after) > decimals || len(digits) > 18 || strings.Trim(digits, "0123456789") != "" || strings.HasSuffix(text, ".") {
		return 0, false
	}
	n, err := strconv.ParseUint(digits+strings.Repeat("0", decimals-len(after)), 10, 64)
	return n, err == nil
}

// unit is a unit of a number.
type unit struct {
	name string
	of   uint64
}

func rateUnits() []unit { return []unit{{"gbit", 1e9}, {"mbit", 1e6}, {"kbit", 1e3}, {"bit", 1}} }

func byteUnits() []unit { return []unit{{"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}} }

// inUnits writes a number in the largest unit of which it is a multiple.
func inUnits(n uint64, units []unit) string {
	for _, u := range units {
		if n%u.of == 0 && n >= u.of {
			return strconv.FormatUint(n/u.of, 10) + u.name
		}
	}
	return "0" + units[len(units)-1].name
}

func rateText(rate uint64) string { return inUnits(rate, rateUnits()) }

func bytesText(n int) string { return inUnits(uint64(max(n, 0)), byteUnits()) }

func timeText(d time.Duration) string { return d.String() }

func readRate(text string, rate *uint64) bool {
	const decimals = 3
	for _, u := range rateUnits() {
		number, is := strings.CutSuffix(text, u.name)
		if !is {
			continue
		}
		n, ok := readDecimal(number, decimals)
		if !ok || n > maxRate*1000 {
			return false
		}
		const thousandths = 1000
		if u.of < thousandths && n%thousandths != 0 {
			return false
		}
		if u.of < thousandths {
			*rate = n / thousandths * u.of
		} else {
			*rate = n * (u.of / thousandths)
		}
		return true
	}
	return false
}

func readBytes(text string, to *int) bool {
	for _, u := range byteUnits() {
		number, is := strings.CutSuffix(text, u.name)
		if !is {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 31)
		if err != nil {
			return false
		}
		*to = int(n * u.of)
		return true
	}
	return false
}

func readNumber(text string, to *int) bool {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n == 0 {
		return false
	}
	*to = int(n)
	return true
}

func readTime(text string, to *time.Duration) bool {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return false
	}
	*to = d
	return true
}
