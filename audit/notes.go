package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"sallyport/audit/tree"
)

// notes is the file of a log's history: signed checkpoints, each followed by an empty line. It only grows. Each is synced
// before the next is written, so that a power cut can tear the last alone.
type notes struct {
	open bool
	end  int64  // where the next one goes; what follows is torn
	last []byte // the last one
}

// notesRead is how much of the file's end is read at start: some hundred checkpoints.
const notesRead = 64 << 10

var signatureLine = []byte("— ") // C2SP signed-note

// append adds a note, unless it is the last one already.
func (n *notes) append(files treeFiles, note []byte) error {
	if !n.open {
		if err := n.start(files); err != nil {
			return err
		}
	}
	if bytes.Equal(note, n.last) {
		return nil
	}
	if err := n.write(files, append(bytes.Clone(note), '\n')); err != nil {
		return err
	}
	n.last, n.end = note, n.end+int64(len(note))+1
	return nil
}

func (n *notes) write(files treeFiles, b []byte) error {
	f, err := files.fs.OpenFile(files.path(historyFile), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err == nil && size != n.end {
		err = f.Truncate(n.end)
	}
	if err == nil {
		_, err = f.WriteAt(b, n.end)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil && n.end == 0 {
		err = files.fs.SyncDir(files.folder)
	}
	return err
}

// start finds where the last whole note ends.
func (n *notes) start(files treeFiles) error {
	f, err := files.fs.OpenFile(files.path(historyFile), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		n.open = true
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	from := max(0, size-notesRead)
	b := make([]byte, size-from)
	if _, err := f.ReadAt(b, from); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	n.end, n.last = size, nil
	if begin, ok := firstNote(b, from == 0); ok {
		n.end, n.last = lastNote(b, begin)
		n.end += from
	}
	n.open = true
	return nil
}

// firstNote is where the first whole note of b begins; false where b has none, and then nothing is cut off.
func firstNote(b []byte, start bool) (int, bool) {
	if start {
		return 0, true
	}
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte("\n\n"))
		if i < 0 {
			return 0, false
		}
		at += i + 2
		line := b[bytes.LastIndexByte(b[:at-2], '\n')+1 : at-2]
		if bytes.HasPrefix(line, signatureLine) {
			return at, true
		}
	}
}

// lastNote goes through the notes from there on, and returns where the last whole one ends.
func lastNote(b []byte, begin int) (end int64, last []byte) {
	for {
		note, size := cutNote(b[begin:])
		if size == 0 {
			return int64(begin), last
		}
		last = bytes.Clone(note)
		begin += size
	}
}

// cutNote is the note that b begins with, and its size with the empty line after it: 0 where there is none.
func cutNote(b []byte) (note []byte, size int) {
	end := bytes.Index(b, []byte("\n\n"))
	if end < 0 {
		return nil, 0
	}
	if _, err := tree.ParseCheckpointBody(b[:end+1]); err != nil {
		return nil, 0
	}
	size = end + 2
	for bytes.HasPrefix(b[size:], signatureLine) {
		i := bytes.IndexByte(b[size:], '\n')
		if i < 0 {
			return nil, 0
		}
		size += i + 1
	}
	if size == end+2 || size == len(b) || b[size] != '\n' {
		return nil, 0
	}
	return b[:size], size + 1
}

// adopt adds the checkpoint that an earlier run published last: a run that was cut off could not.
func (n *notes) adopt(files treeFiles) error {
	note, err := files.ReadFile(checkpointFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the last checkpoint: %w", err)
	}
	if _, size := cutNote(append(bytes.Clone(note), '\n')); size != len(note)+1 {
		return nil // nobody can use it
	}
	return n.append(files, note)
}
