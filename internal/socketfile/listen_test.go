package socketfile

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// withUmask sets the umask, which is the process's: such tests do not run beside others.
func withUmask(t *testing.T, mask int) {
	before := unix.Umask(mask)
	t.Cleanup(func() { unix.Umask(before) })
}

func listen(t *testing.T, path string, access Access) {
	t.Helper()
	fd, err := Listen(path, access, 8)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	c, err := net.Dial("unix", path)
	require.NoError(t, err)
	require.NoError(t, c.Close())
}

func TestASocketHasTheModeThatIsAskedForWhateverTheUmask(t *testing.T) {
	for _, mask := range []int{0, 0o002, 0o022, 0o077, 0o777} {
		for _, mode := range []os.FileMode{0o600, 0o660, 0o770, 0o777} {
			t.Run(strconv.FormatInt(int64(mask), 8)+"/"+mode.String(), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "s")
				withUmask(t, mask)
				listen(t, path, Access{Mode: mode})
				info, err := os.Lstat(path)
				require.NoError(t, err)
				require.Equal(t, mode, info.Mode().Perm())
			})
		}
	}
}

// The mode is that of the socket when bind makes its file, so there is no instant at which it is another one.
func TestASocketIsNeverMoreOpenThanItShouldBe(t *testing.T) {
	withUmask(t, 0)
	for _, tt := range []struct {
		access Access
		most   os.FileMode // at the moment of bind
	}{
		{OwnerOnly(), 0o600},
		{Access{Mode: 0o660}, 0o660},
		{Access{Mode: 0o660, Group: 4321}, 0o600}, // its group is another one still
	} {
		path := filepath.Join(t.TempDir(), "s")
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		defer unix.Close(fd)
		require.NoError(t, bind(fd, path, tt.access))
		info, err := os.Lstat(path)
		require.NoError(t, err)
		require.Equal(t, tt.most, info.Mode().Perm())
	}
}

func TestASocketIsGivenToAGroup(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may give a file to any group")
	}
	const group = 4321
	path := filepath.Join(t.TempDir(), "s")
	listen(t, path, Access{Mode: 0o660, Group: group})
	var st unix.Stat_t
	require.NoError(t, unix.Lstat(path, &st))
	require.EqualValues(t, group, st.Gid)
	require.EqualValues(t, 0o660, st.Mode&0o777)
}

func TestASocketThatCannotBeMadeLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	_, err := Listen(filepath.Join(dir, "no", "where"), OwnerOnly(), 8)
	require.ErrorIs(t, err, os.ErrNotExist)

	path := filepath.Join(dir, "s")
	listen(t, path, OwnerOnly())
	_, err = Listen(path, OwnerOnly(), 8)
	require.ErrorIs(t, err, unix.EADDRINUSE)
	require.FileExists(t, path, "it is another's")
}
