package verify

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"sallyport/audit"
	"sallyport/audit/segment"
	"sallyport/audit/tree"
)

// forgery is one log taken apart by somebody who can write everything anew but signatures.
type forgery struct {
	log  string
	segs []*forgedSegment
}

type forgedSegment struct {
	segment.Header
	frames [][][]byte // of lines
	sealed bool
	tail   []byte // what follows the last frame
}

// takeApart reads a log.
func takeApart(t testing.TB, files map[string][]byte, log string) *forgery {
	t.Helper()
	f := &forgery{log: log}
	for n := uint64(1); n < 1000; n++ {
		s := &forgedSegment{}
		b, ok := files[segment.Name(log, n)]
		if !ok {
			packed, ok := files[segment.SealedName(log, n)]
			if !ok {
				continue
			}
			r, err := segment.OpenSealed(bytes.NewReader(packed), int64(len(packed)))
			if err != nil {
				t.Fatal(err)
			}
			s.sealed, b = true, make([]byte, r.Size())
			if _, err := r.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
		h, err := segment.ParseHeader(b[:segment.Block])
		if err != nil {
			t.Fatal(err)
		}
		s.Header = *h
		b = b[segment.Block:]
		for len(b) > 0 {
			frame, err := segment.ParseFrame(b, h.ID)
			if err != nil {
				break
			}
			var lines [][]byte
			for line := range frame.Lines() {
				lines = append(lines, bytes.Clone(line))
			}
			s.frames = append(s.frames, lines)
			b = b[frame.Size:]
		}
		s.tail = b[:min(len(b), segment.Block)]
		f.segs = append(f.segs, s)
	}
	return f
}

// records are all lines of the log, where they may be changed.
func (f *forgery) records() (lines []*[]byte) {
	for _, s := range f.segs {
		for _, frame := range s.frames {
			for i := range frame {
				lines = append(lines, &frame[i])
			}
		}
	}
	return lines
}

// number gives all records consecutive seqs, from that of the first segment on.
func (f *forgery) number() {
	seq := f.segs[0].FirstSeq()
	for _, line := range f.records() {
		before, rest, _ := bytes.Cut(*line, []byte(`,"seq":`))
		_, after, _ := bytes.Cut(rest, []byte(`,"boot"`))
		*line = fmt.Appendf(nil, `%s,"seq":%d,"boot"%s`, before, seq, after)
		seq++
	}
}

// rebuild puts the log together again, with headers, frames, tiles and tail that fit, into a copy of the files.
func (f *forgery) rebuild(t testing.TB, files map[string][]byte) map[string][]byte {
	t.Helper()
	out := maps.Clone(files)
	for name := range out {
		if strings.HasPrefix(name, f.log+"/") && (strings.Contains(name, segment.Suffix) || strings.Contains(name, "/tile/") || strings.HasSuffix(name, "/tail")) {
			delete(out, name)
		}
	}
	var after tree.Frontier
	var leaves []tree.Hash
	first := true
	for i, s := range f.segs {
		if first {
			after, first = s.Before.Clone(), false
		}
		base := after.Size()
		s.Before = after.Clone()
		if i > 0 {
			s.PrevEnd = f.segs[i-1].length()
		}
		b := s.encode(base)
		for _, frame := range s.frames {
			for _, line := range frame {
				leaf := tree.HashLeaf(line)
				leaves = append(leaves, leaf)
				after.Append(leaf)
			}
		}
		if !s.sealed {
			out[segment.Name(f.log, s.Number)] = b
			continue
		}
		var packed buffer
		if _, err := segment.Seal(&packed, bytes.NewReader(b), int64(len(b)), nil); err != nil {
			t.Fatal(err)
		}
		out[segment.SealedName(f.log, s.Number)] = packed
	}
	if f.segs[0].FirstSeq() == 0 && files[f.log+"/tree/durable"] != nil {
		forgeTiles(f.log, leaves, out)
	}
	return out
}

func (s *forgedSegment) length() int64 {
	n := int64(segment.Block)
	for _, frame := range s.frames {
		payload := 0
		for _, line := range frame {
			payload += len(line) + 1
		}
		n += int64(segment.Padded(segment.FrameHeaderLen + payload))
	}
	return n
}

func (s *forgedSegment) encode(seq uint64) []byte {
	s.Size = max(s.Size, s.length())
	b := s.Header.Encode()
	for _, frame := range s.frames {
		payload := segment.BeginFrame(nil)
		for _, line := range frame {
			payload = append(append(payload, line...), '\n')
		}
		b = append(b, segment.SealFrame(payload, s.ID, seq, len(frame))...)
		seq += uint64(len(frame))
	}
	return append(b, s.tail...)
}

// forgeTiles writes the tiles of a tree.
func forgeTiles(log string, level []tree.Hash, out map[string][]byte) {
	for k := 0; len(level) > 0; k++ {
		var above []tree.Hash
		for n := 0; n*groupLen < len(level); n++ {
			entries := level[n*groupLen : min(len(level), (n+1)*groupLen)]
			out[tilePlace{k, uint64(n)}.path(log, len(entries))] = flat(entries)
			if len(entries) == groupLen {
				above = append(above, rootOf(slices.Clone(entries)))
			}
		}
		level = above
	}
}

// buffer is a file in memory.
type buffer []byte

func (b *buffer) WriteAt(p []byte, at int64) (int, error) {
	if need := int(at) + len(p); need > len(*b) {
		*b = append(*b, make([]byte, need-len(*b))...)
	}
	return copy((*b)[at:], p), nil
}

// A log that is taken apart and put together again unchanged passes: what the tests below find is what they changed.
func TestForgeriesAreSound(t *testing.T) {
	w, files := honest(t, 5)
	for _, log := range []string{audit.DecisionLog, audit.ControlLog} {
		f := takeApart(t, files, log)
		f.number()
		again := f.rebuild(t, files)
		report := verifyFiles(t, again, Options{Trust: w.keys.trust(t)})
		if report.Result != Pass && report.Result != Gaps {
			t.Errorf("%s log put together again:\n%s", log, printed(report))
		}
	}
}
