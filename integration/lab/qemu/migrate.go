package qemu

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// Bandwidths of a migration, in bytes a second.
const (
	quick = 1 << 30
	slow  = 1 << 20 // so that it does not end by itself
)

// downtime is how long a guest may stand still at the end of a migration, in milliseconds. What is emulated may be busy.
const downtime = 5000

// MigrateTo migrates the guest to a machine that was started for it, see Options.From, and ends m.
func (m *Machine) MigrateTo(ctx context.Context, to *Machine) error {
	uri := "unix:" + filepath.Join(to.dir, "mig")
	if err := to.QMP.Execute("migrate-incoming", map[string]any{"uri": uri}, nil); err != nil {
		return err
	}
	if err := m.migrate(uri, quick); err != nil {
		return err
	}
	if err := m.QMP.awaitMigration(ctx, "completed"); err != nil {
		return err
	}
	return m.handOver(ctx, to)
}

// handOver ends m, whose guest goes on in another machine, and waits until it runs there.
func (m *Machine) handOver(ctx context.Context, to *Machine) error {
	to.follow()
	if err := m.QMP.Quit(); err != nil {
		return err
	}
	return to.QMP.awaitStatus(ctx, "running")
}

// CancelMigrationTo begins to migrate the guest to a machine, and cancels that when it is under way.
func (m *Machine) CancelMigrationTo(ctx context.Context, to *Machine) error {
	uri := "unix:" + filepath.Join(to.dir, "mig")
	if err := to.QMP.Execute("migrate-incoming", map[string]any{"uri": uri}, nil); err != nil {
		return err
	}
	if err := m.migrate(uri, slow); err != nil {
		return err
	}
	if err := m.QMP.awaitMigration(ctx, "active"); err != nil {
		return err
	}
	if err := m.QMP.Execute("migrate_cancel", nil, nil); err != nil {
		return err
	}
	return m.QMP.awaitMigration(ctx, "cancelled")
}

// Save saves the guest in a file, from which a machine that is started for it can go on: see Restore.
func (m *Machine) Save(ctx context.Context, file string) error {
	if err := m.migrate("file:"+file, quick); err != nil {
		return err
	}
	return m.QMP.awaitMigration(ctx, "completed")
}

// Restore goes on with a guest that was saved in a file, in the place of the machine From, which it ends.
func (m *Machine) Restore(ctx context.Context, from *Machine, file string) error {
	m.follow()
	if err := from.QMP.Quit(); err != nil {
		return err
	}
	<-from.Done()
	if err := m.QMP.Execute("migrate-incoming", map[string]any{"uri": "file:" + file}, nil); err != nil {
		return err
	}
	return m.QMP.awaitStatus(ctx, "running")
}

func (m *Machine) migrate(uri string, bandwidth int) error {
	limits := map[string]any{"max-bandwidth": bandwidth, "downtime-limit": downtime}
	if err := m.QMP.Execute("migrate-set-parameters", limits, nil); err != nil {
		return err
	}
	return m.QMP.Execute("migrate", map[string]any{"uri": uri}, nil)
}

// RefusesPostcopy tells why no guest can be migrated to m by postcopy.
func (m *Machine) RefusesPostcopy() error {
	capability := map[string]any{"capability": "postcopy-ram", "state": true}
	return m.QMP.Execute("migrate-set-capabilities", map[string]any{"capabilities": []any{capability}}, nil)
}

// awaitMigration waits until the migration is in a state. It fails if that has ended in another one.
func (q *QMP) awaitMigration(ctx context.Context, want string) error {
	return q.await(ctx, "query-migrate", want, "completed", "failed", "cancelled")
}

// awaitStatus waits until the guest is in a state.
func (q *QMP) awaitStatus(ctx context.Context, want string) error {
	return q.await(ctx, "query-status", want)
}

// await asks again and again until the status of the answer is what is wanted, or one that does not change any more.
func (q *QMP) await(ctx context.Context, query, want string, last ...string) error {
	for {
		var answer struct {
			Status string `json:"status"`
			Why    string `json:"error-desc"`
		}
		if err := q.Execute(query, nil, &answer); err != nil {
			return err
		}
		if answer.Status == want {
			return nil
		}
		for _, s := range last {
			if answer.Status == s {
				return fmt.Errorf("QMP %s: %s: %s", query, s, answer.Why)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("QMP %s: %s instead of %s: %w", query, answer.Status, want, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
