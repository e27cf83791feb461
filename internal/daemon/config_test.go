package daemon

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/sandbox"
)

func TestThreadsGetProcessorsInTurn(t *testing.T) {
	threads := Threads{CPUs: []int{4, 5, 6}}
	require.Equal(t, []int{4, 5, 6}, threads.from(0))
	require.Equal(t, []int{5, 6, 4}, threads.from(1))
	require.Equal(t, []int{4, 5, 6}, threads.from(6))
	require.Empty(t, new(Threads).from(5))
}

// allowedCPU is a processor on which this process may run.
func allowedCPU(t *testing.T) (cpu int) {
	var allowed unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &allowed))
	for !allowed.IsSet(cpu) {
		cpu++
	}
	return cpu
}

func TestProcessorsAreThoseOfTheProcess(t *testing.T) {
	cpu := allowedCPU(t)
	threads := Threads{CPUs: []int{cpu, cpu}}
	require.NoError(t, threads.check())
	require.NoError(t, new(Threads).check())
	threads.CPUs = append(threads.CPUs, 1000)
	require.ErrorContains(t, threads.check(), "there is no processor 1000 for this process")
}

func TestProcessorsAreWrittenAsRanges(t *testing.T) {
	for want, cpus := range map[string][]int{"": nil, "3": {3}, "2,4-7": {2, 4, 5, 6, 7}, "1,0-2": {1, 0, 1, 2}} {
		require.Equal(t, want, FormatCPUs(cpus))
	}
}

// newDaemon is a daemon of a configuration, of which nothing is open.
func newDaemon(c Config) *Daemon {
	return &Daemon{config: c, broker: broker.NewClient(broker.Observer{})}
}

func TestWhereNothingIsToBeDoneThereIsNoBroker(t *testing.T) {
	require.True(t, new(broker.Duties).Empty())
	d := newDaemon(Config{Sandbox: sandbox.On, FrontEnds: FrontEnds{FD: new(int)}})
	require.NoError(t, d.startBroker(), "an inherited socket")
	require.False(t, d.broker.Started())
	d = newDaemon(Config{Sandbox: sandbox.Off, FrontEnds: FrontEnds{SocketPaths: []string{"/s"}}})
	d.asked.duties.Read = "/etc/resolv.conf"
	require.NoError(t, d.startBroker())
	require.False(t, d.broker.Started())
	require.NoError(t, d.broker.Undo())
}
