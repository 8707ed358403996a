package audit

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
)

// verifyAtStart is how much of a log's newest sealed segments is read and checked, digests included, when a gateway
// starts: enough to find what a bad disk or a hand in the directory did lately, without making a start wait for years
// of log. Headers are checked to the first; the rest is for `audit verify`.
const verifyAtStart = 256 << 20

// history is what a log's folder holds when it is opened.
type history struct {
	last *header // nil for a new log
	name string  // of the last segment
	extent
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
	h := &history{last: last, name: segmentName(log, last.number)}
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
func checkChain(fs FileSystem, log string, numbers []uint64) ([]*header, error) {
	var headers []*header
	for _, n := range numbers {
		h, err := openHeader(fs, log, n)
		if err != nil {
			return nil, err
		}
		if len(headers) > 0 {
			err = checkSuccessor(headers[len(headers)-1], h)
		} else if n == 1 && (h.firstSeq != 0 || h.prevEnd != 0) {
			err = errors.New("the first segment does not start at seq 0")
		}
		if err != nil {
			return nil, &Damage{File: segmentName(log, n), Seq: h.firstSeq, Err: err}
		}
		headers = append(headers, h)
	}
	return headers, nil
}

func openHeader(fs FileSystem, log string, number uint64) (*header, error) {
	name := segmentName(log, number)
	f, err := fs.OpenFile(name, os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("opening audit segment: %w", err)
	}
	defer f.Close()
	return readHeader(f, name, log, number)
}

func checkSuccessor(prev, h *header) error {
	switch {
	case h.prevEnd < block || h.prevEnd > prev.size:
		return fmt.Errorf("header puts the end of segment %d at %d", prev.number, h.prevEnd)
	case h.firstSeq < prev.firstSeq:
		return fmt.Errorf("header's first seq is before that of segment %d", prev.number)
	case h.bootN < prev.bootN:
		return fmt.Errorf("header's boot number %d is less than %d of segment %d", h.bootN, prev.bootN, prev.number)
	}
	return nil
}

// settle finds the end of the last segment and makes sure that it stays there. The last whole frame may never have
// been acknowledged: it may be in the page cache only, even after a sync that failed and marked its pages clean. It is
// kept, so it is written once more, as it is, and synced. Frames before it were acknowledged and are durable.
func (h *history) settle(fs FileSystem, log string) error {
	f, err := fs.OpenFile(h.name, os.O_RDWR)
	if err != nil {
		return fmt.Errorf("opening audit segment: %w", err)
	}
	defer f.Close()
	x, err := measureLast(f, h.name, h.last)
	if err != nil {
		return err
	}
	h.extent = *x
	if x.lastAt > 0 {
		frame := make([]byte, x.end-x.lastAt)
		_, err = f.ReadAt(frame, x.lastAt)
		if err == nil {
			_, err = f.WriteAt(frame, x.lastAt)
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
func verifyRecent(fs FileSystem, log string, headers []*header) error {
	var read int64
	for i := len(headers) - 2; i >= 0 && read < verifyAtStart; i-- {
		read += headers[i+1].prevEnd
		if err := verifySealed(fs, log, headers[i], headers[i+1]); err != nil {
			return err
		}
	}
	return nil
}

func verifySealed(fs FileSystem, log string, h, successor *header) error {
	name := segmentName(log, h.number)
	f, err := fs.OpenFile(name, os.O_RDONLY)
	if err != nil {
		return fmt.Errorf("opening audit segment: %w", err)
	}
	defer f.Close()
	return measureSealed(f, name, h, successor)
}

// record is the recovered record for a torn tail; nil when the log ended cleanly. No power cut makes a segment shorter,
// but a copy that was interrupted does, and that must not pass in silence even where it ends between two batches.
func (h *history) record() *Record {
	if h.dropped == 0 && h.missing == 0 {
		return nil
	}
	return &Record{Type: TypeRecovered, Code: CodeTornTail, Detail: detail(struct {
		File    string `json:"file"`
		Offset  int64  `json:"offset"`
		Dropped int64  `json:"dropped_bytes"`
		Missing int64  `json:"missing_bytes"`
	}{h.name, h.end, h.dropped, h.missing})}
}
