package audit

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"sallyport/audit/segment"
)

// verifyAtStart is how much of a log's newest sealed segments is read and checked, digests included, when a gateway
// starts: enough to find what a bad disk or a hand in the directory did lately, without making a start wait for years
// of log. Headers are checked to the first; the rest is for `audit verify`.
const verifyAtStart = 256 << 20

// Damage is something wrong in a part of a log that was acknowledged, or a log that does not fit together.
type Damage = segment.Damage

// history is what a log's folder holds when it is opened.
type history struct {
	last *segment.Header // nil for a new log
	name string          // of the last segment
	segment.Extent
}

// recoverLog reads a log's folder, makes its last batch durable, and says where the log ends. It changes nothing that
// a second start after a crash would miss: the torn tail stays in its file, and the next segment's header states that
// the file ends before it.
func recoverLog(fs FileSystem, log string) (*history, error) {
	if err := removeTemporaries(fs, log); err != nil {
		return nil, err
	}
	numbers, err := listSegments(fs, log)
	if err != nil {
		return nil, err
	}
	if len(numbers) == 0 {
		return new(history), nil
	}
	headers, err := checkChain(fs, log, numbers)
	if err != nil {
		return nil, err
	}
	last := headers[len(headers)-1]
	h := &history{last: last, name: segment.Name(log, last.Number)}
	if err := h.settle(fs, log); err != nil {
		return nil, err
	}
	return h, verifyRecent(fs, log, headers)
}

// removeTemporaries removes segments that never got their name.
func removeTemporaries(fs FileSystem, log string) error {
	names, err := fs.ReadDir(log)
	if err != nil {
		return fmt.Errorf("listing audit segments: %w", err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, temporarySuffix) {
			continue
		}
		if err := fs.Remove(path.Join(log, name)); err != nil {
			return fmt.Errorf("removing unfinished audit segment: %w", err)
		}
	}
	return nil
}

// checkChain reads all headers and checks that each fits the one before.
func checkChain(fs FileSystem, log string, numbers []uint64) ([]*segment.Header, error) {
	var headers []*segment.Header
	for _, n := range numbers {
		h, err := openHeader(fs, log, n)
		if err != nil {
			return nil, err
		}
		if len(headers) > 0 {
			err = h.Follows(headers[len(headers)-1])
		} else if n == 1 && (h.FirstSeq() != 0 || h.PrevEnd != 0) {
			err = errors.New("the first segment does not start at seq 0")
		}
		if err != nil {
			return nil, &Damage{File: segment.Name(log, n), Seq: h.FirstSeq(), Err: err}
		}
		headers = append(headers, h)
	}
	return headers, nil
}

// settle finds the end of the last segment and makes sure that it stays there. The last whole frame may never have
// been acknowledged: it may be in the page cache only, even after a sync that failed and marked its pages clean. It is
// kept, so it is written once more, as it is, and synced. Frames before it were acknowledged and are durable.
func (h *history) settle(fs FileSystem, log string) error {
	f, err := fs.OpenFile(h.name, os.O_RDWR)
	if errors.Is(err, os.ErrNotExist) {
		return &Damage{File: segment.SealedName(log, h.last.Number), Seq: h.last.FirstSeq(), Err: errors.New("a sealed segment has no successor")}
	}
	if err != nil {
		return fmt.Errorf("opening audit segment: %w", err)
	}
	defer f.Close()
	x, err := measureLast(f, h.name, h.last)
	if err != nil {
		return err
	}
	h.Extent = *x
	if x.LastAt > 0 {
		frame := make([]byte, x.End-x.LastAt)
		_, err = f.ReadAt(frame, x.LastAt)
		if err == nil {
			_, err = f.WriteAt(frame, x.LastAt)
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = fs.SyncDir(log)
	}
	if err != nil {
		return fmt.Errorf("making the last batch of %s durable: %w", h.name, err)
	}
	return nil
}

// verifyRecent checks the newest sealed segments against their successors' headers.
func verifyRecent(fs FileSystem, log string, headers []*segment.Header) error {
	var read int64
	for i := len(headers) - 2; i >= 0 && read < verifyAtStart; i-- {
		read += headers[i+1].PrevEnd
		if err := verifySealed(fs, log, headers[i], headers[i+1]); err != nil {
			return err
		}
	}
	return nil
}

func verifySealed(fs FileSystem, log string, h, successor *segment.Header) error {
	s, err := openSegment(fs, log, h.Number)
	if err != nil {
		return err
	}
	defer s.Close()
	return segment.MeasureSealed(s, h, successor)
}

// measureLast finds the end of a segment that has no successor.
func measureLast(f File, name string, h *segment.Header) (*segment.Extent, error) {
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return segment.MeasureLast(f, size, h)
}

// record is the recovered record for a torn tail; nil when the log ended cleanly. No power cut makes a segment shorter,
// but a copy that was interrupted does, and that must not pass in silence even where it ends between two batches.
func (h *history) record() *Record {
	if h.Dropped == 0 && h.Missing == 0 {
		return nil
	}
	return &Record{Type: TypeRecovered, Code: CodeTornTail, Detail: detail(struct {
		File    string `json:"file"`
		Offset  int64  `json:"offset"`
		Dropped int64  `json:"dropped_bytes"`
		Missing int64  `json:"missing_bytes"`
	}{h.name, h.End, h.Dropped, h.Missing})}
}
