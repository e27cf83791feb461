package talk

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const limit = 2 * time.Minute

// connected returns both ends of a connection.
func connected(t *testing.T) (a, b *net.TCPConn) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	require.NoError(t, err)
	d, err := l.Accept()
	require.NoError(t, err)
	return c.(*net.TCPConn), d.(*net.TCPConn)
}

func TestBothEndsAgreeOnEachKind(t *testing.T) {
	for kind := range Kinds {
		for _, size := range []int64{0, 1, 100_000, 3 << 20} {
			caller, answerer := connected(t)
			answered := make(chan Result)
			go func() {
				r, err := Answer(answerer, limit)
				if err != nil {
					r.Outcome = Broken // reset before the script was read
				}
				answered <- r
			}()
			s := Script{ID: 7, Kind: kind, Up: size, Down: size / 3}
			up, down := Call(caller, s, limit), <-answered
			switch kind {
			case CallerResets:
				require.Equal(t, Resetting, up.Outcome)
				require.Equal(t, Broken, down.Outcome)
			case AnswererResets:
				require.Equal(t, Broken, up.Outcome, up.Error)
				require.Equal(t, Resetting, down.Outcome)
			default:
				require.Equal(t, Complete, up.Outcome, up.Error)
				require.Equal(t, Complete, down.Outcome, down.Error)
				require.Equal(t, s.Down, up.Bytes)
				require.Equal(t, s.Up, down.Bytes)
			}
		}
	}
}

func TestAnEndThatComesTooEarlyIsNoticed(t *testing.T) {
	caller, answerer := connected(t)
	go func() {
		_, _ = io.ReadFull(answerer, make([]byte, scriptSize))
		_ = answerer.Close()
	}()
	require.Equal(t, Truncated, Call(caller, Script{Kind: AnswererFirst, Down: 10}, limit).Outcome)
}

func TestWrongBytesAreNoticed(t *testing.T) {
	caller, answerer := connected(t)
	go func() {
		_, _ = io.ReadFull(answerer, make([]byte, scriptSize))
		_, _ = answerer.Write([]byte("nonsense"))
		_ = answerer.CloseWrite()
	}()
	require.Equal(t, Wrong, Call(caller, Script{Kind: AnswererFirst, Down: 10}, limit).Outcome)
	_ = answerer.Close()
}

func TestSilenceIsNoticed(t *testing.T) {
	caller, answerer := connected(t)
	defer answerer.Close()
	require.Equal(t, Stuck, Call(caller, Script{Kind: Both, Down: 10}, 10*time.Millisecond).Outcome)
}

func TestWhatIsNoScriptIsAnError(t *testing.T) {
	caller, answerer := connected(t)
	defer caller.Close()
	_, err := caller.Write(make([]byte, scriptSize))
	require.NoError(t, err)
	_, err = Answer(answerer, limit)
	require.ErrorContains(t, err, "no script")
}

func TestBothEndsHearTheSameUrgentBytes(t *testing.T) {
	parts := []string{"abcX", "Ydef", "plain", "Z"}
	caller, answerer := connected(t)
	answered := make(chan Heard)
	go func() { answered <- EchoBack(answerer, parts, limit) }()
	want := Heard{Text: "abcXYdefplainZ", Marks: []int{3, 4, 13}, Told: 3}
	require.Equal(t, want, Echo(caller, parts, limit))
	require.Equal(t, want, <-answered)
}

func TestAnUrgentByteThatIsNoneIsMissed(t *testing.T) {
	caller, answerer := connected(t)
	_, err := io.WriteString(caller, "abcX")
	require.NoError(t, err)
	require.NoError(t, caller.Close())
	h := Heard{}
	file, err := answerer.File()
	require.NoError(t, err)
	defer file.Close()
	require.NoError(t, hear(&h, int(file.Fd()), "abcx"))
	require.Equal(t, Heard{Text: "abcX"}, h)
	require.NotEmpty(t, EchoBack(answerer, []string{"x"}, limit).Error, "the stream has ended")
}
