package gateway

import (
	"context"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"testing"

	"sallyport/audit"
	"sallyport/gateway/limit"
)

// DOS-12: strangers who are refused ten thousand times leave a bounded log on disk, which says how often it was to the
// last one, and somebody who is signed in has a record of each refusal in the middle of it.
func TestFloodLeavesABoundedLogWithExactSums(t *testing.T) {
	const recorded, clients, each = 50, 8, 1250
	b := newBed(t, nil)
	snap := snapshot(t, wiki(t, b.origin, "board"))
	snap.Limits = limit.Config{StrangersRecords: never(recorded)}
	b.server.Swap(snap)
	dir := t.TempDir()
	logs, err := audit.Open(audit.Config{Dir: dir, Origin: "corp.test/audit", SegmentSize: 1 << 20}, audit.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	window := audit.NewWindow(logs.Decisions())
	b.server.decisions, b.server.window = logs.Decisions(), window
	ctx, stop := context.WithCancel(t.Context())
	var windows, flood sync.WaitGroup
	windows.Go(func() { _ = window.Run(ctx) }) // its last post is read below
	for n := range clients {
		flood.Go(func() {
			client, known := b.client(t, "http/1.1"), b.client(t, "http/1.1")
			for i := range each {
				if n == 0 && i == each/2 {
					answerTo(t, known, b.request(t, "GET", "/", "ada", nil))
				}
				if status, _ := answerTo(t, client, b.request(t, "GET", "/", "", nil)); status != http.StatusUnauthorized {
					t.Errorf("a stranger got %d", status)
				}
			}
		})
	}
	flood.Wait()
	stop()
	windows.Wait()
	if err := logs.Close(); err != nil {
		t.Fatal(err)
	}

	people, strangers, counts := readFlood(t, dir)
	if people != 1 || strangers != recorded || strangers+counts != clients*each {
		t.Errorf("%d records of ada, %d of strangers, %d counted; want 1, %d and %d", people, strangers, counts, recorded, clients*each-recorded)
	}
	if n := size(t, dir); n > 8<<20 {
		t.Errorf("%d bytes on disk, as much as a record for each would need", n)
	}
}

// readFlood tells what the decision log says about ada and about strangers.
func readFlood(t *testing.T, dir string) (people, strangers, counts int) {
	t.Helper()
	reader, err := audit.OpenReader(dir, audit.DecisionLog)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for entry, err := range reader.All(t.Context(), audit.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		switch r := entry.Record; {
		case r.Type == audit.TypeDecision && r.Session != "":
			people++
		case r.Type == audit.TypeDecision:
			strangers++
		case r.Type == audit.TypeWindow:
			var detail audit.WindowDetail
			if err := json.Unmarshal(r.Detail, &detail); err != nil {
				t.Fatal(err)
			}
			counts += int(detail.Other)
			for _, row := range detail.Rows {
				counts += int(row.Count)
			}
		}
	}
	return people, strangers, counts
}

// size is what the files below a directory hold, in bytes.
func size(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(dir), ".", func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		bytes += info.Size()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}
