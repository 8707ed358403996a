package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"sallyport/audit/segment"
)

// source is a segment that is open for reading, sealed or not.
type source struct {
	io.ReaderAt
	file   File
	name   string // of the file, within the audit directory
	size   int64  // of the segment
	sealed bool
}

func (s *source) Close() error { return s.file.Close() }

// openSegment opens a segment for reading. Where both forms are there, sealing was not finished, and the raw one counts.
// fs.ErrNotExist says that there is neither.
func openSegment(fsys FileSystem, log string, number uint64) (*source, error) {
	s, err := openForm(fsys, segment.Name(log, number), false)
	if errors.Is(err, fs.ErrNotExist) {
		// The sealed form has its name before the raw one goes.
		s, err = openForm(fsys, segment.SealedName(log, number), true)
	}
	return s, err
}

func openForm(fsys FileSystem, name string, sealed bool) (*source, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("opening audit segment: %w", err)
	}
	s := &source{ReaderAt: f, file: f, name: name, sealed: sealed}
	if s.size, err = f.Size(); err == nil && sealed {
		err = s.unseal()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening audit segment: %w", err), f.Close())
	}
	return s, nil
}

func (s *source) unseal() error {
	sealed, err := segment.OpenSealed(s.file, s.size)
	if err != nil {
		return s.damage(err)
	}
	s.ReaderAt, s.size = unsealed{sealed, s}, sealed.Size()
	return nil
}

// damage says in which file it is that a sealed segment is damaged.
func (s *source) damage(err error) error {
	if wrong, ok := errors.AsType[*segment.SealedError](err); ok {
		return &Damage{File: s.name, Offset: wrong.Offset, Err: wrong.Err}
	}
	return err
}

// unsealed reads a sealed segment of a log.
type unsealed struct {
	*segment.Sealed
	source *source
}

func (u unsealed) ReadAt(b []byte, at int64) (int, error) {
	n, err := u.Sealed.ReadAt(b, at)
	return n, u.source.damage(err)
}

// measureLast finds the end of a segment that has no successor. It is not sealed: only what has one is.
func (s *source) measureLast(h *segment.Header) (*segment.Extent, error) {
	if s.sealed {
		return nil, &Damage{File: s.name, Offset: s.size, Seq: h.FirstSeq(), Err: errors.New("a sealed segment has no successor")}
	}
	return measureLast(s.file, s.name, h)
}

// openHeader reads the header of a segment.
func openHeader(fsys FileSystem, log string, number uint64) (*segment.Header, error) {
	s, err := openSegment(fsys, log, number)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return segment.ReadHeader(s, log, number)
}

// listSegments returns the numbers of a log's segments in ascending order, each once, sealed or not.
func listSegments(fsys FileSystem, log string) ([]uint64, error) {
	forms, err := listForms(fsys, log)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, f := range forms {
		numbers = append(numbers, f.number)
	}
	for i, n := range numbers {
		if n != numbers[0]+uint64(i) {
			missing := numbers[0] + uint64(i)
			return nil, &Damage{File: segment.Name(log, missing), Err: errors.New("segment is missing")}
		}
	}
	return numbers, nil
}

// forms says in which forms a segment is there.
type forms struct {
	number      uint64
	raw, sealed bool
}

// listForms lists a log's segments in ascending order, each once.
func listForms(fsys FileSystem, log string) ([]forms, error) {
	names, err := fsys.ReadDir(log)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing audit segments: %w", err)
	}
	var list []forms
	for _, name := range names {
		n, sealed, ok := segment.Number(name)
		if !ok {
			continue
		}
		at := len(list) - 1 // names are sorted, and both forms of a number stand side by side
		if at < 0 || list[at].number != n {
			list, at = append(list, forms{number: n}), at+1
		}
		list[at].sealed = list[at].sealed || sealed
		list[at].raw = list[at].raw || !sealed
	}
	slices.SortFunc(list, func(a, b forms) int { return int(int64(a.number) - int64(b.number)) })
	return list, nil
}
