package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"sallyport/audit/segment"
)

// Copy writes what an auditor needs of an audit directory to a new folder, also while a gateway writes: both logs as they
// were at one moment, the signed checkpoints from before it, and the policies. A tool that copies file after file takes the
// checkpoints after the records, and what it makes looks cut off. Hash tiles are left out: they can be made again.
func Copy(ctx context.Context, dir, to string) error {
	if err := os.Mkdir(to, directoryMode); err != nil {
		return fmt.Errorf("copying the audit directory: %w", err)
	}
	err := copyDirectory(ctx, dir, to)
	if err != nil {
		return errors.Join(fmt.Errorf("copying the audit directory: %w", err), os.RemoveAll(to))
	}
	return nil
}

func copyDirectory(ctx context.Context, dir, to string) error {
	source, err := openDirectory(dir)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := openDirectory(to)
	if err != nil {
		return err
	}
	defer target.Close()
	notes, err := readNotes(source)
	if err != nil {
		return err
	}
	ends, err := oneMoment(ctx, source)
	if err != nil {
		return err
	}
	for _, log := range []string{ControlLog, DecisionLog} {
		if err := target.MkdirAll(log); err != nil {
			return err
		}
		if err := copyLog(ctx, source, target, log, ends[log]); err != nil {
			return err
		}
	}
	if err := copyPolicies(ctx, source, target); err != nil {
		return err
	}
	for name, content := range notes {
		if err := target.MkdirAll(path.Dir(name)); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), content, fileMode); err != nil {
			return err
		}
	}
	return nil
}

// readNotes reads the signed checkpoints, which are about fewer records than there will be when those are looked at.
func readNotes(fsys FileSystem) (map[string][]byte, error) {
	notes := map[string][]byte{}
	for _, log := range []string{ControlLog, DecisionLog} {
		for _, file := range []string{historyFile, checkpointFile} {
			name := path.Join(log, treeFolder, file)
			content, err := readFile(fsys, name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			notes[name] = content
		}
	}
	return notes, nil
}

// oneMoment returns how far each log was at one time: neither holds a heartbeat that tells of more of the other.
func oneMoment(ctx context.Context, fsys FileSystem) (map[string]uint64, error) {
	control, decisions := OpenReaderFS(fsys, ControlLog), OpenReaderFS(fsys, DecisionLog)
	for {
		before, err := control.Bounds()
		if err != nil {
			return nil, err
		}
		d, err := decisions.Bounds()
		if err != nil {
			return nil, err
		}
		after, err := control.Bounds()
		if err != nil {
			return nil, err
		}
		if before.Next == after.Next {
			return map[string]uint64{ControlLog: before.Next, DecisionLog: d.Next}, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// copyLog copies the segments up to a seq, at which a batch ends.
func copyLog(ctx context.Context, from, to FileSystem, log string, end uint64) error {
	numbers, err := listSegments(from, log)
	if err != nil {
		return err
	}
	for i, number := range numbers {
		s, err := openSegment(from, log, number)
		if errors.Is(err, fs.ErrNotExist) && i == 0 {
			return copyLog(ctx, from, to, log, end) // pruned a moment ago
		}
		if err != nil {
			return err
		}
		done, err := copySegment(ctx, s, to, log, number, end)
		if err = errors.Join(err, s.Close()); err != nil || done {
			return err
		}
	}
	return nil
}

// copySegment copies one segment, in the form that it has: whole, or up to end, which done says.
func copySegment(ctx context.Context, s *source, to FileSystem, log string, number, end uint64) (done bool, err error) {
	h, err := segment.ReadHeader(s, log, number)
	if err != nil {
		return false, err
	}
	if h.FirstSeq() >= end && end > 0 && number > 1 {
		return true, nil // begun after the moment
	}
	reader, size := io.ReaderAt(s.file), int64(0)
	if s.sealed {
		size, err = s.file.Size()
	} else {
		size, done, err = s.extentTo(h, end)
	}
	if err != nil {
		return false, err
	}
	f, err := to.OpenFile(s.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return false, err
	}
	_, err = io.Copy(&fileWriter{file: f}, contextReader{ctx, io.NewSectionReader(reader, 0, size)})
	if err == nil && done {
		err = f.Truncate(h.Size) // as it is while it is written: zeros follow
	}
	return done, errors.Join(err, f.Sync(), f.Close())
}

// extentTo is where a raw segment's records before end end, and whether that is before the segment's own end.
func (s *source) extentTo(h *segment.Header, end uint64) (size int64, cut bool, err error) {
	scan := segment.NewScanner(s, h)
	for scan.Seq() < end {
		_, _, err := scan.Next(s.size)
		if _, damaged := errors.AsType[*Damage](err); damaged || errors.Is(err, io.EOF) {
			return scan.At(), false, nil // the next segment goes on, or says what is wrong
		}
		if err != nil {
			return 0, false, err
		}
	}
	return scan.At(), true, nil
}

func copyPolicies(ctx context.Context, from, to FileSystem) error {
	names, err := from.ReadDir(policiesFolder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := to.MkdirAll(policiesFolder); err != nil {
		return err
	}
	for _, name := range names {
		name = path.Join(policiesFolder, name)
		content, err := readFile(from, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a temporary name that has its own by now
		}
		if err != nil {
			return err
		}
		f, err := to.OpenFile(name, os.O_WRONLY|os.O_CREATE)
		if err == nil {
			_, err = f.WriteAt(content, 0)
			err = errors.Join(err, f.Sync(), f.Close())
		}
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, context.Cause(ctx))
		}
	}
	return nil
}

// fileWriter writes a File from its begin on.
type fileWriter struct {
	file File
	at   int64
}

func (w *fileWriter) Write(b []byte) (int, error) {
	n, err := w.file.WriteAt(b, w.at)
	w.at += int64(n)
	return n, err
}

// contextReader reads until ctx ends.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(b)
}
