package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"sallyport/audit/tree"
)

// checkTrees checks what is on the disk after a sudden end against what the key process has signed, and on request that
// the next start has tiles that are right.
func (h *cellar) checkTrees(restart bool) error {
	for log := range h.acked {
		if err := checkSigned(h.disk.boot(-1, false), h.keys, log); err != nil {
			return err
		}
	}
	if !restart {
		return nil
	}
	return checkRestart(h.disk, h.keys)
}

// checkSigned checks that whatever was signed is a prefix of the log, and that what was published is whole and signed.
func checkSigned(m *machine, keys *keyProcess, log string) error {
	roots, err := rootsOf(m, log)
	if err != nil {
		return err
	}
	prefix := func(what string, cp tree.Checkpoint) error {
		if cp.Size >= uint64(len(roots)) || roots[cp.Size] != cp.Root {
			return fmt.Errorf("%s: %s is of %d records, and not a prefix of the %d there are", log, what, cp.Size, len(roots)-1)
		}
		return nil
	}
	last := keys.position(log)
	if err := prefix("what was signed last", last); err != nil {
		return err
	}
	trust := keys.trust()
	note, err := readFile(m, path.Join(log, treeFolder, checkpointFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		cp, err := trust.Open(note)
		if err == nil {
			err = prefix("the published checkpoint", cp)
		}
		if err != nil || cp.Size > last.Size {
			return fmt.Errorf("%s: checkpoint of %d records, %d signed: %w", log, cp.Size, last.Size, err)
		}
	}
	return checkHistory(m, log, trust, prefix)
}

// checkHistory checks that all but a torn last checkpoint is whole, in order, and of this log.
func checkHistory(m *machine, log string, trust *tree.Trust, prefix func(string, tree.Checkpoint) error) error {
	history, err := readFile(m, path.Join(log, treeFolder, historyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for before := uint64(0); len(history) > 0; {
		note, size := cutNote(history)
		if size == 0 {
			if len(history) > 1024 {
				return fmt.Errorf("%s: history has %d torn bytes", log, len(history))
			}
			return nil
		}
		cp, err := trust.Open(note)
		if err == nil {
			err = prefix("a checkpoint in the history", cp)
		}
		if err != nil || cp.Size < before {
			return fmt.Errorf("%s: history has %d records after %d: %w", log, cp.Size, before, err)
		}
		before, history = cp.Size, history[size:]
	}
	return nil
}

// rootsOf computes the root of each size of a log from its records alone.
func rootsOf(m *machine, log string) ([]tree.Hash, error) {
	var f tree.Frontier
	roots := []tree.Hash{f.Root()}
	for line, err := range OpenReaderFS(m, log).Lines(context.Background(), 0) {
		if err != nil {
			return nil, err
		}
		f.Append(tree.HashLeaf(line.Raw))
		roots = append(roots, f.Root())
	}
	return roots, nil
}

// checkRestart starts once more, has all signed, and checks each tile of both logs. It takes no record of its own.
func checkRestart(d *disk, keys *keyProcess) error {
	m := d.boot(-1, false)
	a, err := Open(Config{Dir: "unused"}, quiet(Options{FS: m, segmentSize: smallestSegment}))
	if err != nil {
		return err
	}
	if err := a.Attach(context.Background(), keys); err != nil {
		return errors.Join(err, a.Close())
	}
	if err := a.Close(); err != nil {
		return err
	}
	for _, log := range []string{DecisionLog, ControlLog} {
		if err := checkSigned(m, keys, log); err != nil {
			return err
		}
		if err := checkTiles(m, log); err != nil {
			return err
		}
	}
	return nil
}

// checkTiles compares all tiles of the published checkpoint with the records.
func checkTiles(m *machine, log string) error {
	roots, err := rootsOf(m, log)
	if err != nil || len(roots) == 1 {
		return err
	}
	size := uint64(len(roots) - 1)
	p := &tree.Prover{Files: treeFiles{m, path.Join(log, treeFolder)}, Size: size, Root: roots[size]}
	var tile []byte
	for line, err := range OpenReaderFS(m, log).Lines(context.Background(), 0) {
		if err != nil {
			return err
		}
		leaf := tree.HashLeaf(line.Raw)
		tile = append(tile, leaf[:]...)
		if next := line.Seq + 1; next%tree.TileWidth != 0 && next != size {
			continue
		}
		if proved, _, err := p.Inclusion(line.Seq); err != nil || proved != leaf {
			return fmt.Errorf("%s: record %d of %d is not in the tiles: %w", log, line.Seq, size, err)
		}
		name := tilePath(0, line.Seq/tree.TileWidth)
		if width := len(tile) / len(leaf); width < tree.TileWidth {
			name = fmt.Sprintf("%s.p/%d", name, width)
		}
		if b, err := p.Files.ReadFile(name); err != nil || !bytes.Equal(b, tile) {
			return fmt.Errorf("%s: %s does not hold the leaves up to %d: %w", log, name, line.Seq, err)
		}
		tile = tile[:0]
	}
	return nil
}

// script is one run that does the same each time: records over several tiles, several checkpoints, one after a sync of the
// tiles and one in the history, and an end in order. It reports what was acknowledged.
func script(m *machine, keys *keyProcess) (acked []Receipt, err error) {
	a, err := Open(Config{Dir: "unused"}, quiet(Options{FS: m, segmentSize: smallestSegment}))
	if err != nil {
		return nil, err
	}
	defer a.Close()
	if err := a.Attach(context.Background(), keys); err != nil {
		return nil, err
	}
	for i := range 4 {
		for range 80 {
			_ = a.Decisions().Post(context.Background(), decision("/"))
		}
		for _, l := range []*Log{a.Decisions(), a.Control()} {
			if r, err := l.Append(context.Background(), decision("/")); err == nil {
				acked = append(acked, r)
			}
		}
		for _, k := range a.keepers {
			k.mu.Lock()
			k.put, k.retry = k.put.Add(-checkpointPeriod), k.put // it is due
			if i == 2 {
				k.synced, k.kept = k.synced.Add(-rarely*checkpointPeriod), k.kept.Add(-rarely*checkpointPeriod)
			}
			k.mu.Unlock()
			k.step(context.Background())
		}
	}
	return acked, nil
}

// Every write, sync, renaming and removal of two runs in a row is where a machine stops once, by a power cut and by a kill.
// No acknowledged record is lost, what was signed stays a prefix of the log, and the next start has the right tree.
func TestTreeSurvivesEveryCut(t *testing.T) {
	rnd := randomness(t)
	// Every day a tenth of them, another each time; all of them where rounds are asked for.
	step, n := 10, 0
	if rounds(t, 0) > 0 {
		step = 1
	}
	for at := rnd.IntN(step); ; at += step {
		over := true
		for _, cut := range []bool{true, false} {
			done, err := cutAt(rand.New(rand.NewPCG(rnd.Uint64(), 0)), nil, at, cut)
			if err != nil {
				t.Fatalf("stopped at change %d, power cut %v: %v", at, cut, err)
			}
			over, n = over && done, n+1
		}
		if over {
			break
		}
	}
	t.Logf("stopped %d times", n)
}

// cutAt stops the script at a change, in its first run and in a second one, and checks what is left. It reports whether
// the script got to its end before.
func cutAt(rnd *rand.Rand, lie func(*disk), at int, cut bool) (done bool, err error) {
	d, keys := newDisk(rnd), newKeyProcess()
	if lie != nil {
		lie(d)
	}
	seen := map[string]map[uint64]string{DecisionLog: {}, ControlLog: {}}
	done = true
	for range 2 {
		m := d.boot(at, cut)
		acked, err := script(m, keys)
		if errors.Is(err, ErrRolledBack) {
			return false, err
		}
		done = done && m.alive() == nil
		d.stop()
		for _, r := range acked {
			if other, twice := seen[r.Log][r.Seq]; twice {
				return false, fmt.Errorf("%s seq %d was given to %s and %s", r.Log, r.Seq, other, r.ID)
			}
			seen[r.Log][r.Seq] = r.ID
		}
		h := &cellar{disk: d, keys: keys, acked: seen}
		if _, err := h.check(d.boot(-1, false)); err != nil {
			return false, err
		}
		if err := h.checkTrees(false); err != nil {
			return false, err
		}
	}
	return done, checkRestart(d, keys)
}

// The same cuts find what would be wrong with the tree alone: records are not looked at.
func TestTreeCutsFindMistakes(t *testing.T) {
	for name, lie := range map[string]func(name string) bool{
		"signed before records are durable":  func(name string) bool { return strings.HasSuffix(name, ".seg") },
		"checkpoint renamed before synced":   func(name string) bool { return strings.HasSuffix(name, "/checkpoint.tmp") },
		"tiles trusted that are not durable": func(name string) bool { return strings.Contains(name, "/tree/tile/") },
	} {
		t.Run(name, func(t *testing.T) {
			rnd := randomness(t)
			for range 600 {
				lies := func(d *disk) { d.ForgetsSync = lie }
				err := treeCut(rand.New(rand.NewPCG(rnd.Uint64(), 0)), lies, rnd.IntN(300))
				if err != nil {
					t.Logf("found: %v", err)
					return
				}
			}
			t.Error("600 power cuts and nothing was missed")
		})
	}
}

// treeCut is cutAt for the tree alone.
func treeCut(rnd *rand.Rand, lie func(*disk), at int) error {
	d, keys := newDisk(rnd), newKeyProcess()
	lie(d)
	for range 2 {
		_, err := script(d.boot(at, true), keys)
		if errors.Is(err, ErrRolledBack) {
			return err
		}
		d.stop()
		for _, log := range []string{DecisionLog, ControlLog} {
			if err := checkSigned(d.boot(-1, false), keys, log); err != nil {
				return err
			}
		}
	}
	return checkRestart(d, keys)
}
