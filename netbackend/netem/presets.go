package netem

import "time"

// Preset is a link with a name. None is how one certain link is; each is what users of such a link meet with.
type Preset struct {
	Name   string
	About  string
	Source string // where its values are from
	Link   Link
}

// Presets are all that there are.
func Presets() []Preset {
	const ms = time.Millisecond
	const mbit, kbit = 1_000_000, 1_000
	const profiles = " of WebPageTest (connectivity.ini), half of its round trip each way"
	return []Preset{
		{"lan", "Ethernet of 1 Gbit/s behind a switch.", "rate of 1000BASE-T (IEEE 802.3ab); the delay is chosen",
			both(Direction{Rate: 1_000 * mbit, Delay: 100 * time.Microsecond})},
		{"dsl", "A slow ADSL line: 1.5 Mbit/s down, 384 kbit/s up.", "the profile DSL" + profiles,
			Link{In: Direction{Rate: 1_500 * kbit, Delay: 25 * ms}, Out: Direction{Rate: 384 * kbit, Delay: 25 * ms}}},
		{"lte", "A telephone with LTE: 12 Mbit/s.", "the profile LTE" + profiles,
			both(Direction{Rate: 12 * mbit, Delay: 35 * ms})},
		{"edge", "A telephone with EDGE: 240 kbit/s down, 200 kbit/s up, and most of a second there and back.", "the profile Edge" + profiles,
			Link{In: Direction{Rate: 240 * kbit, Delay: 420 * ms}, Out: Direction{Rate: 200 * kbit, Delay: 420 * ms}}},
		{"satellite", "A geostationary satellite: 20 Mbit/s down, 3 Mbit/s up, more than half a second there and back.", "delay at the edge of its view by RFC 2488 section 2; the rates are chosen",
			Link{In: Direction{Rate: 20 * mbit, Delay: 279 * ms}, Out: Direction{Rate: 3 * mbit, Delay: 279 * ms}}},
	}
}

// both is a link that is the same both ways.
func both(d Direction) Link { return Link{In: d, Out: d} }

func presetNames() (names []string) {
	for _, p := range Presets() {
		names = append(names, p.Name)
	}
	return names
}
