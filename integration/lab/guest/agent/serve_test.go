package agent

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
)

// serve runs commands behind a console, as on a host.
func serve(t *testing.T, commands map[string]Command) *guest.Console {
	in, toIn, err := os.Pipe()
	require.NoError(t, err)
	out, toOut := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- Serve(in, toOut, commands) }()
	t.Cleanup(func() {
		require.NoError(t, toIn.Close())
		require.NoError(t, <-ended, "Serve ends with the console")
		require.NoError(t, in.Close())
		toOut.Close()
	})
	c := guest.NewConsole(out, toIn, func() string { return "" })
	_, err = c.WaitBoot(soon(t))
	require.NoError(t, err)
	return c
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestTheHostGetsEventsAndResults(t *testing.T) {
	c := serve(t, map[string]Command{
		"add": func(args Arguments, event func(any)) (any, error) {
			a, err := args.Number(0)
			if err != nil {
				return nil, err
			}
			b, err := args.Optional(1, 5)
			event(proto.Text{Text: "adding"})
			return a + b, err
		},
		"fail": func(args Arguments, _ func(any)) (any, error) {
			text, err := args.Text(0)
			return nil, errors.Join(err, errors.New(text))
		},
	})
	call := c.Start("add", 2)
	var event proto.Text
	require.NoError(t, call.Event(soon(t), &event))
	require.Equal(t, "adding", event.Text)
	var sum int
	require.NoError(t, call.Wait(soon(t), &sum))
	require.Equal(t, 7, sum)

	require.NoError(t, c.Do(soon(t), &sum, "add", 2, 3))
	require.Equal(t, 5, sum)
	require.EqualError(t, c.Do(soon(t), nil, "fail", "no"), `guest: fail: "no"`)
	require.EqualError(t, c.Do(soon(t), nil, "add"), `guest: add: "argument 1 is missing"`)
	require.EqualError(t, c.Do(soon(t), nil, "other"), `guest: other: "unknown command other"`)
}

func TestCommandsOverlap(t *testing.T) {
	release := make(chan struct{})
	c := serve(t, map[string]Command{
		"wait": func(Arguments, func(any)) (any, error) { <-release; return nil, nil },
		"free": func(Arguments, func(any)) (any, error) { close(release); return nil, nil },
	})
	waiting := c.Start("wait")
	require.NoError(t, c.Do(soon(t), nil, "free"))
	require.NoError(t, waiting.Wait(soon(t), nil))
}
