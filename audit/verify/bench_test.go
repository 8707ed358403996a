package verify

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"sallyport/audit"
	"sallyport/audit/segment"
	"sallyport/audit/tree"
)

// BenchmarkVerify verifies a decision log of records of 1,300 bytes, in frames of 64 as they come from many writers, and
// says how many records a second that is.
func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir()
	keys := newKeys(1)
	const segments, perSegment = 12, 48 << 10
	benchLog(b, dir, keys, segments, perSegment)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began, cpu, records := time.Now(), cpuTime(), uint64(0)
	for b.Loop() {
		report, err := Run(context.Background(), dir, Options{Trust: keys.trust(b)})
		if err != nil || report.Result != Pass {
			b.Fatal(err, printed(report))
		}
		records += report.Records
	}
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(records)/time.Since(began).Seconds(), "records/s")
	b.ReportMetric(float64(cpuTime()-cpu)/float64(records), "cpu-ns/record") // what it takes whatever else runs
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/1e6/float64(b.N), "MB-allocated")
}

// benchLog writes a log of segments.
func benchLog(b *testing.B, dir string, keys *keys, segments, perSegment int) {
	pad := bytes.Repeat([]byte("x"), 800)
	boot := uuid.New()
	var after tree.Frontier
	prevEnd, seq := int64(0), uint64(0)
	for n := range segments {
		h := &segment.Header{Log: audit.DecisionLog, Number: uint64(n + 1), ID: uuid.New(), Created: time.Now(), Boot: boot, BootN: 1, Size: 1 << 30, PrevEnd: prevEnd, Before: after.Clone()}
		data := h.Encode()
		for at := 0; at < perSegment; at += 64 {
			frame := segment.BeginFrame(nil)
			for range 64 {
				line := benchLine(seq, boot, pad)
				after.Append(tree.HashLeaf(line))
				frame = append(append(frame, line...), '\n')
				seq++
			}
			data = append(data, segment.SealFrame(frame, h.ID, seq-64, 64)...)
		}
		prevEnd = int64(len(data))
		if n == segments-1 {
			data = append(data, make([]byte, 1<<20)...)
			h.Size = int64(len(data))
			copy(data, h.Encode())
		}
		store(b, dir, map[string][]byte{segment.Name(audit.DecisionLog, uint64(n+1)): data})
	}
	cp := tree.Checkpoint{Origin: testOrigin + "/decision", Size: seq, Root: after.Root()}
	store(b, dir, map[string][]byte{"decision/tree/checkpoint": keys.signNote(cp.Origin, string(cp.Body()))})
	if err := os.Mkdir(filepath.Join(dir, "control"), 0o755); err != nil {
		b.Fatal(err)
	}
	h := &segment.Header{Log: audit.ControlLog, Number: 1, ID: uuid.New(), Created: time.Now(), Boot: boot, BootN: 1, Size: 2 * segment.Block}
	line := fmt.Appendf(nil, `{"v":1,"id":"018f0000-0000-7000-8000-%012x","log":"control","seq":0,"boot":{"id":"%s","n":1},"type":"control","code":"started","time":"2026-11-01T00:00:00.000000000Z","replica":"gw1"}`, 0, boot)
	frame := segment.SealFrame(append(append(segment.BeginFrame(nil), line...), '\n'), h.ID, 0, 1)
	cp = tree.Checkpoint{Origin: testOrigin + "/control", Size: 1, Root: tree.HashLeaf(line)}
	store(b, dir, map[string][]byte{
		segment.Name(audit.ControlLog, 1): append(h.Encode(), frame...), "control/tree/checkpoint": keys.signNote(cp.Origin, string(cp.Body())),
	})
}

func benchLine(seq uint64, boot uuid.UUID, pad []byte) []byte {
	return fmt.Appendf(make([]byte, 0, 1400), `{"v":1,"id":"018f0000-0000-7000-8000-%012x","log":"decision","seq":%d,"boot":{"id":"%s","n":1},"type":"decision","time":"2026-11-01T00:00:%02d.000000000Z","replica":"gw1","request_id":"018f0000-0000-7000-8000-000000000000","session":"abcdefghijklmnop","app":"wiki","effect":"allow","reason":"allow","input":{"subject":{"id":"corp|alice","email":"alice@corp.example"},"pad":"%s"},"input_digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","policy":{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","revision":"1"},"decision":{"allow":true}}`,
		seq, seq, boot, min(59, seq/20000), pad)
}

// cpuTime is the processor time that this process has used.
func cpuTime() time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
