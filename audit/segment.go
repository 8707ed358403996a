package audit

import (
	"errors"
	"fmt"

	"sallyport/audit/segment"
)

const temporarySuffix = ".tmp"

var (
	errSegmentFull = errors.New("segment is full")
	errAbandoned   = errors.New("segment was abandoned")
)

// activeSegment is the one file that a log appends to. It belongs to the committer.
type activeSegment struct {
	*segment.Header
	file File
	name string // within the audit directory
	end  int64  // where the next frame goes; everything before it is durable
	lost bool   // a write or sync failed: what the file holds beyond end is unknown for good
}

// become makes the blank the segment that h describes, starting with first (a sealed frame) when that is not empty.
// On return the segment, its first frame and its name are durable; with that, its predecessor ends where h says.
//
// After an error the segment may exist all the same. No frame was acknowledged in it, and a repeated attempt with the
// same number replaces it.
func (b *blank) become(fs FileSystem, h *segment.Header, first []byte) (*activeSegment, error) {
	h.Size = b.size
	s := &activeSegment{Header: h, file: b.file, name: segment.Name(h.Log, h.Number)}
	start := append(h.Encode(), first...)
	_, err := b.file.WriteAt(start, 0)
	if err == nil {
		err = b.file.Sync()
	}
	if err == nil {
		err = fs.Rename(b.name, s.name)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting audit segment: %w", err), b.discard(fs))
	}
	if err := fs.SyncDir(h.Log); err != nil {
		return nil, errors.Join(fmt.Errorf("starting audit segment: %w", err), b.file.Close())
	}
	s.end = int64(len(start))
	return s, nil
}

// append makes a sealed frame durable. After any error but errSegmentFull the segment takes no more frames: which part
// of the frame is on disk, or will be, cannot be known.
func (s *activeSegment) append(frame []byte) error {
	if s.lost {
		return errAbandoned
	}
	if s.end+int64(len(frame)) > s.Size {
		return errSegmentFull
	}
	_, err := s.file.WriteAt(frame, s.end)
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		s.lost = true
		return fmt.Errorf("writing %s at %d: %w", s.name, s.end, err)
	}
	s.end += int64(len(frame))
	return nil
}

// retire lets go of a segment that has a durable successor and gives back the space it did not use. Nobody reads
// beyond what the successor's header states, so whether the cut happens, or lasts, is of no consequence.
func (s *activeSegment) retire() {
	_ = s.file.Truncate(s.end)
	_ = s.file.Close()
}
