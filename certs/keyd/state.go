package keyd

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"sallyport/certs/internal/wire"
)

// logState is the state of one log: a file of the state folder for each configured origin. Values compare with ==.
type logState struct {
	base   string          // the configured origin
	epoch  uint64          // from 1; `keyd new-epoch` opens the next
	signed bool            // something was, in this epoch
	last   wire.Checkpoint // the last one signed; size 0 and the empty root until then
}

// newLogState is that of a log of which nothing was ever signed.
func newLogState(base string) logState {
	return logState{base: base, epoch: 1, last: wire.Checkpoint{Origin: base, Root: emptyRoot}}
}

// successor opens the next epoch.
func (s logState) successor() logState {
	origin := wire.EpochOrigin(s.base, s.epoch+1)
	return logState{base: s.base, epoch: s.epoch + 1, last: wire.Checkpoint{Origin: origin, Root: emptyRoot, Previous: s.last.PreviousLine()}}
}

const (
	stateTitle = "keyd checkpoint state v1"
	// maxState bounds a file of the state folder, in bytes.
	maxState = 64 << 10
)

// encode writes the state as text that a person can read, closed by its own SHA-256 so that a half or flipped file is
// noticed. It keeps out no attacker: whoever can write this folder is keyd's user, and has the keys.
func (s logState) encode() []byte {
	b := fmt.Appendf(nil, "%s\nbase %s\nepoch %d\nsigned %t\n", stateTitle, s.base, s.epoch, s.signed)
	b = s.last.AppendText(b)
	return fmt.Appendf(b, "sha256 %x\n", sha256.Sum256(b))
}

// decodeState reads what encode wrote, to the byte.
func decodeState(data []byte) (logState, error) {
	bad := errors.New("is damaged")
	lines := strings.SplitAfterN(string(data), "\n", 5)
	if len(lines) != 5 {
		return logState{}, bad
	}
	if lines[0] != stateTitle+"\n" {
		return logState{}, fmt.Errorf("is damaged or of another version: it does not begin with %q", stateTitle)
	}
	end := strings.LastIndex(lines[4], "sha256 ")
	if end < 0 {
		return logState{}, bad
	}
	value := func(i int, name string) string {
		return strings.TrimSuffix(strings.TrimPrefix(lines[i], name+" "), "\n")
	}
	s := logState{base: value(1, "base"), signed: value(3, "signed") == "true"}
	s.epoch, _ = strconv.ParseUint(value(2, "epoch"), 10, 32)
	s.last, _ = wire.ParseCheckpoint([]byte(lines[4][:end]))
	if s.epoch == 0 || s.last.Origin != wire.EpochOrigin(s.base, s.epoch) || !bytes.Equal(s.encode(), data) {
		return logState{}, bad
	}
	return s, nil
}

// stateFile is the name of an origin's file: origins contain no '~'.
func stateFile(base string) string { return "checkpoint-" + strings.ReplaceAll(base, "/", "~") }

// errNoState means that an origin has no file. keyd run never makes one: `keyd init` does, and `keyd new-epoch`, on an
// operator's word. So a missing file is a lost one.
var errNoState = errors.New("is missing: if it was lost, only `keyd new-epoch` can go on; see there")

// loadState reads an origin's file.
func loadState(store stateFolder, base string) (logState, error) {
	data, err := store.Read(stateFile(base))
	if errors.Is(err, fs.ErrNotExist) {
		err = errNoState
	}
	var s logState
	if err == nil {
		s, err = decodeState(data)
	}
	if err == nil && s.base != base {
		err = errors.New("is that of another log")
	}
	if err != nil {
		return logState{}, fmt.Errorf("nothing is signed for %s: its state file %s %w", base, stateFile(base), err)
	}
	return s, nil
}

// saveState returns when the state is on disk.
func saveState(store stateFolder, s logState) error {
	if err := replaceFile(store, stateFile(s.base), s.encode()); err != nil {
		return fmt.Errorf("keeping the state of %s: %w", s.base, err)
	}
	return nil
}

// replaceFile returns when the data is on disk: written to a new file and synced, renamed over the old one, and the folder
// synced. Whatever fails, the old file or the new one is there whole. The new one begins with freshPrefix, as no file that
// is named after a log or a key does: with an ending it could be another's.
func replaceFile(store stateFolder, name string, data []byte) error {
	fresh := freshPrefix + name
	f, err := store.Create(fresh)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = store.Rename(fresh, name)
	}
	if err == nil {
		err = store.Sync()
	}
	return err
}

// stateFolder is what the state needs of a folder. Names are plain. Nothing survives a power cut before it is synced: a
// file's bytes by its own Sync, names by the folder's.
type stateFolder interface {
	// Read returns the whole file. The error is fs.ErrNotExist if there is none.
	Read(name string) ([]byte, error)
	// Create makes an empty file that did not exist, removing what a killed process left under the name.
	Create(name string) (writer, error)
	// Rename replaces.
	Rename(from, to string) error
	// Sync makes all names durable.
	Sync() error
}

// writer is a file being written.
type writer interface {
	io.WriteCloser
	Sync() error
}

// diskFolder is keyd's state folder.
type diskFolder struct{ root *os.Root }

// openState opens the folder, whose owner and mode lock has checked.
func openState(dir string) (diskFolder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return diskFolder{}, fmt.Errorf("opening state folder: %w", err)
	}
	return diskFolder{root}, nil
}

func (d diskFolder) Close() error { return d.root.Close() }

func (d diskFolder) Read(name string) ([]byte, error) {
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // O_NONBLOCK: see keyFiles.load
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := checkPrivate(f); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, maxState))
}

func (d diskFolder) Create(name string) (writer, error) {
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func (d diskFolder) Rename(from, to string) error { return d.root.Rename(from, to) }

func (d diskFolder) Sync() error {
	f, err := d.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
