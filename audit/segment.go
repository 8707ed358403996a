package audit

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"path"
	"strconv"
	"strings"
)

const (
	segmentSuffix   = ".seg"
	temporarySuffix = ".tmp"
)

var (
	errSegmentFull = errors.New("segment is full")
	errAbandoned   = errors.New("segment was abandoned")
)

// segment is the one file that a log appends to. It belongs to the committer.
type segment struct {
	header
	file File
	name string    // within the audit directory
	end  int64     // where the next frame goes; everything before it is durable
	sum  hash.Hash // SHA-256 of everything before end
	lost bool      // a write or sync failed: what the file holds beyond end is unknown for good
}

// segmentName is where the segment with that number is.
func segmentName(log string, number uint64) string {
	return path.Join(log, fmt.Sprintf("%010d", number)+segmentSuffix)
}

// segmentNumber reads a file name of a log's folder; false for files that are no segments.
func segmentNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n > 0
}

// become makes the blank the segment that h describes, starting with first (a sealed frame) when that is not empty.
// On return the segment, its first frame and its name are durable; with that, its predecessor ends where h says.
//
// After an error the segment may exist all the same. No frame was acknowledged in it, and a repeated attempt with the
// same number replaces it.
func (b *blank) become(fs FileSystem, h header, first []byte) (*segment, error) {
	h.size = b.size
	s := &segment{header: h, file: b.file, name: segmentName(h.log, h.number), sum: sha256.New()}
	start := append(h.encode(), first...)
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
	if err := fs.SyncDir(h.log); err != nil {
		return nil, errors.Join(fmt.Errorf("starting audit segment: %w", err), b.file.Close())
	}
	s.end = int64(len(start))
	s.sum.Write(start)
	return s, nil
}

// append makes a sealed frame durable. After any error but errSegmentFull the segment takes no more frames: which part
// of the frame is on disk, or will be, cannot be known.
func (s *segment) append(frame []byte) error {
	if s.lost {
		return errAbandoned
	}
	if s.end+int64(len(frame)) > s.size {
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
func (s *segment) retire() {
	_ = s.file.Truncate(s.end)
	_ = s.file.Close()
}

// digest is SHA-256 over the segment's durable bytes.
func (s *segment) digest() (sum [sha256.Size]byte) {
	s.sum.Sum(sum[:0])
	return sum
}
