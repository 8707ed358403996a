package verify

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"sallyport/audit/segment"
)

// segmentFile is one segment by its name; both forms are there while sealing is under way.
type segmentFile struct {
	number      uint64
	raw, sealed bool
}

// listSegments returns a log's segments in the order of their numbers, and gives every other name to other.
func (f folder) listSegments(log string, other func(fs.DirEntry)) ([]segmentFile, error) {
	var files []segmentFile
	for e, err := range f.list(log) {
		if err != nil {
			return nil, err
		}
		number, sealed, ok := segment.Number(e.Name())
		if !ok || e.IsDir() {
			other(e)
			continue
		}
		files = append(files, segmentFile{number, !sealed, sealed})
	}
	slices.SortFunc(files, func(a, b segmentFile) int {
		if a.number < b.number {
			return -1
		}
		return min(1, int(a.number-b.number))
	})
	merged := files[:0]
	for _, s := range files {
		if n := len(merged); n > 0 && merged[n-1].number == s.number {
			merged[n-1].raw, merged[n-1].sealed = true, true
			continue
		}
		merged = append(merged, s)
	}
	return merged, nil
}

// source is a segment that is open for reading.
type source struct {
	io.ReaderAt
	file   *os.File
	name   string // of the file, below the audit directory
	size   int64  // of the segment
	sealed bool
}

// openSegment opens the raw form where it is there, which is what counts until sealing is finished. A live log seals
// meanwhile, so the sealed form is tried when the raw one is gone.
func (f folder) openSegment(log string, s segmentFile) (*source, error) {
	src, err := f.openForm(segment.Name(log, s.number), false)
	if errors.Is(err, fs.ErrNotExist) {
		src, err = f.openForm(segment.SealedName(log, s.number), true)
	}
	return src, err
}

func (f folder) openForm(name string, sealed bool) (*source, error) {
	file, size, err := f.open(name)
	if err != nil {
		return nil, err
	}
	src := &source{ReaderAt: file, file: file, name: name, size: size, sealed: sealed}
	if sealed {
		s, err := segment.OpenSealed(file, size)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", name, err), file.Close())
		}
		src.ReaderAt, src.size = s, s.Size()
	}
	return src, nil
}

func (s *source) Close() {
	_ = s.file.Close() // it was only read
}

// header reads the segment's header.
func (s *source) header(log string, number uint64) (*segment.Header, error) {
	b := make([]byte, segment.Block)
	n, err := s.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	h, err := segment.ParseHeader(b[:n])
	if err != nil {
		return nil, err
	}
	if h.Log != log || h.Number != number {
		return nil, fmt.Errorf("the header is of segment %d of log %q", h.Number, h.Log)
	}
	return h, nil
}

// sameBytes reports whether the other form of a segment holds the same up to end.
func sameBytes(a, b io.ReaderAt, end int64) (bool, error) {
	const step = 1 << 20
	x, y := make([]byte, step), make([]byte, step)
	for at := int64(0); at < end; at += step {
		n := min(step, end-at)
		for _, r := range []struct {
			from io.ReaderAt
			to   []byte
		}{{a, x[:n]}, {b, y[:n]}} {
			if got, err := r.from.ReadAt(r.to, at); int64(got) < n && !errors.Is(err, io.EOF) {
				return false, err
			} else if int64(got) < n {
				return false, nil
			}
		}
		if !bytes.Equal(x[:n], y[:n]) {
			return false, nil
		}
	}
	return true, nil
}
