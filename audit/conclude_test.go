package audit

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// A disk that refuses once to make tiles durable, just when a run ends, costs neither the process nor its last checkpoint.
func TestLastCheckpointSurvivesTilesThatCannotBeSynced(t *testing.T) {
	m := newDisk(randomness(t)).boot(-1, false)
	a, err := Open(Config{Dir: "unused"}, quiet(Options{FS: m, segmentSize: smallestSegment}))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Attach(t.Context(), newKeyProcess()); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, a.Decisions(), "/")
	k := a.keepers[0]
	k.mu.Lock()
	k.period, k.synced = time.Nanosecond, time.Time{} // tiles are due
	k.mu.Unlock()
	refused := 0
	m.setFault(func(op, name string) error {
		if op == "sync" && strings.Contains(name, "/tree/tile/") && refused == 0 {
			refused++
			return syscall.EIO
		}
		return nil
	})
	if err := k.conclude(t.Context()); err != nil {
		t.Errorf("the run ends with %v", err)
	}
	if refused == 0 {
		t.Error("nothing was refused: the test shows nothing")
	}
	if last := k.latest.Load(); last == nil || last.Size != a.Decisions().Records() {
		t.Errorf("the last checkpoint is %+v", last)
	}
}
