package spool

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// DOS-19: whatever app, client, limits and disk do, the client sees what the app said, then how it ended, and nothing is
// left when it has gone.
func TestClientSeesWhatTheAppSaid(t *testing.T) {
	rapid.Check(t, func(draw *rapid.T) {
		if err := scenarios.Draw(draw, "scenario").run(t, nil); err != nil {
			draw.Fatal(err)
		}
	})
}

func TestFilesThatGoWrongAreNoticed(t *testing.T) {
	for name, mistake := range mistakes {
		t.Run(name, func(t *testing.T) {
			for seed := range 500 {
				if scenarios.Example(seed).run(t, mistake) != nil {
					return
				}
			}
			t.Error("500 scenarios noticed nothing")
		})
	}
}

// onFake is a Spooler with the limits given and files in memory, closed with the test.
func onFake(t *testing.T, set settings, folder *fakeFolder) *Spooler {
	t.Helper()
	s := &Spooler{retry: retryPeriod}
	set.folder = folder
	s.use(&set)
	t.Cleanup(func() {
		s.Close()
		if left := s.Stats(); left.Bodies != 0 || left.Memory != 0 || left.Disk != 0 || left.Files != 0 || folder.open != 0 {
			t.Errorf("left over: %+v, %d files", left, folder.open)
		}
	})
	return s
}

var plenty = settings{memory: 1 << 20, perBody: 256 << 10, disk: 1 << 30, bodyDisk: 1 << 30}

// answer is an app that says the text, then waits for the time given, then ends.
func answer(text []byte, wait time.Duration) *fakeApp {
	return &fakeApp{answer: text, pieces: []int{len(text)}, pause: 1 << 30, wait: wait, closed: make(chan struct{})}
}

func TestAppIsFreeBeforeTheClientReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, text := onFake(t, plenty, &fakeFolder{}), contents(10<<20)
		app := answer(text, 0)
		r := s.Response(t.Context(), app)
		defer r.Close()
		synctest.Wait()
		if !app.isClosed {
			t.Fatal("the app is still held")
		}
		used := s.Stats()
		if used.Memory > plenty.perBody || used.Memory+used.Disk < int64(len(text)) || used.Files != 1 || used.Bodies != 1 {
			t.Errorf("got %+v", used)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, text) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		if used = s.Stats(); used.Memory != 0 || used.Disk > punchStep {
			t.Errorf("after the client has read everything: %+v", used)
		}
	})
}

// What has arrived is handed out although the app pauses, from memory, from behind a file and without any room.
func TestPauseOfTheAppHoldsNothingBack(t *testing.T) {
	for name, set := range map[string]settings{
		"memory":    plenty,
		"file":      {memory: 1 << 20, perBody: 0, disk: 1 << 30, bodyDisk: 1 << 30},
		"no file":   {memory: 64 << 10},
		"no memory": {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, text := onFake(t, set, &fakeFolder{}), contents(100<<10)
				r := s.Response(t.Context(), answer(text, time.Hour))
				defer r.Close()
				synctest.Wait()
				start, got := time.Now(), make([]byte, len(text))
				if r.Idle() && set.memory > 0 {
					t.Error("idle with bytes waiting")
				}
				if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, text) {
					t.Fatal("other bytes", err)
				}
				if waited := time.Since(start); waited > retryPeriod {
					t.Errorf("the client waited %v", waited)
				}
				if !r.Idle() {
					t.Error("not idle while the app pauses")
				}
				if n, err := r.Read(got); n != 0 || err != io.EOF || time.Since(start) < time.Hour {
					t.Errorf("got %d, %v after %v", n, err, time.Since(start))
				}
				if r.Idle() {
					t.Error("idle at the end")
				}
			})
		})
	}
}

// A trailer is known when the client has seen the end: src is read to its end and closed by then. The race detector
// watches.
func TestTrailerIsKnownAtTheEnd(t *testing.T) {
	for _, set := range []settings{plenty, {}} {
		s := onFake(t, set, &fakeFolder{})
		app := &trailingApp{fakeApp: answer(contents(300<<10), 0)}
		r := s.Response(t.Context(), app)
		if _, err := r.WriteTo(io.Discard); err != nil {
			t.Fatal(err)
		}
		if app.trailer != "kept" || !app.isClosed {
			t.Errorf("trailer %q, closed %v", app.trailer, app.isClosed)
		}
		r.Close()
	}
}

type trailingApp struct {
	*fakeApp
	trailer string
}

func (a *trailingApp) Read(p []byte) (int, error) {
	n, err := a.fakeApp.Read(p)
	if err == io.EOF {
		a.trailer = "kept"
	}
	return n, err
}

// A revoked session's download ends now, not when the client has taken what waits.
func TestEndOfContextEndsBothSides(t *testing.T) {
	for name, set := range map[string]settings{"spooled": plenty, "no memory": {}} {
		for _, said := range []int{0, 1 << 20} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := onFake(t, set, &fakeFolder{})
					ctx, cancel := context.WithCancelCause(t.Context())
					app := answer(contents(said), time.Hour)
					r := s.Response(ctx, app)
					defer r.Close()
					synctest.Wait()
					time.AfterFunc(time.Second, func() { cancel(errRevoked) })
					start := time.Now()
					if said > 0 {
						time.Sleep(2 * time.Second)
					}
					if _, err := r.Read(make([]byte, 1)); err != errRevoked {
						t.Errorf("got %v, want the cause", err)
					}
					synctest.Wait()
					if time.Since(start) > time.Minute || !app.isClosed {
						t.Errorf("after %v the app is closed: %v", time.Since(start), app.isClosed)
					}
				})
			})
		}
	}
}

// What a client is just being sent stays as it is when its Reader ends meanwhile, and is freed after.
func TestWriteUnderWayKeepsWhatItWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, text := onFake(t, plenty, &fakeFolder{}), contents(150<<10)
		r := s.Response(t.Context(), answer(text, 0))
		synctest.Wait()
		seen := 0
		n, err := r.WriteTo(writerFunc(func(p []byte) (int, error) {
			r.Close()
			scribble()
			if seen = len(p); !bytes.Equal(p, text[:seen]) {
				t.Error("the bytes changed while they were written")
			}
			return seen, nil
		}))
		if n != int64(seen) || err != ErrClosed {
			t.Errorf("got %d, %v", n, err)
		}
	})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Limits are for all bodies together, and every body gets what it needs to reach its file.
func TestManyBodiesShareTheMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := settings{memory: 4 << 20, perBody: 256 << 10, disk: 1 << 30, bodyDisk: 1 << 30}
		s, text := onFake(t, set, &fakeFolder{}), contents(400<<10)
		var readers []*Reader
		for range 200 {
			readers = append(readers, s.Response(t.Context(), answer(text, 0)))
			if used := s.Stats().Memory; used > set.memory {
				t.Fatalf("%d bytes of memory used, %d allowed", used, set.memory)
			}
		}
		synctest.Wait()
		for i, r := range readers {
			if !r.drained() {
				t.Fatalf("answer %d still holds its app: %+v", i, s.Stats())
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, text) {
				t.Fatalf("answer %d: %d bytes, %v", i, len(got), err)
			}
			r.Close()
		}
	})
}

// A stalled answer goes on when others leave, although its own client does nothing.
func TestRoomThatOthersLeaveIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := settings{memory: 1 << 20, perBody: 64 << 10, disk: 1 << 20, bodyDisk: 1 << 20}
		s, text := onFake(t, set, &fakeFolder{}), contents(1<<20)
		first, second := s.Response(t.Context(), answer(text, 0)), s.Response(t.Context(), answer(text, 0))
		defer second.Close()
		defer first.Close()
		synctest.Wait()
		if s.Stats().Stalled == 0 {
			t.Fatalf("nobody is stalled: %+v", s.Stats())
		}
		if second.drained() {
			first, second = second, first
		}
		first.Close()
		time.Sleep(time.Second)
		synctest.Wait()
		if !second.drained() || s.Stats().Stalled != 0 {
			t.Errorf("still stalled: %+v", s.Stats())
		}
	})
}

// Where the file system gives nothing back of a file, a new one begins when the client has read the old one.
func TestFileIsLeftBehindWhereNothingIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := &fakeFolder{cannotCut: true}
		s, text := onFake(t, settings{memory: 1 << 20, disk: 1 << 20, bodyDisk: 1 << 20}, folder), contents(4<<20)
		r := s.Response(t.Context(), answer(text, 0))
		defer r.Close()
		var got []byte
		for p := make([]byte, 100<<10); ; {
			if len(got)%(1<<20) < len(p) {
				synctest.Wait() // the app is ahead as far as it may
			}
			n, err := r.Read(p)
			got = append(got, p[:n]...)
			if err == io.EOF {
				break
			}
		}
		if !bytes.Equal(got, text) {
			t.Errorf("other bytes, %d of %d", len(got), len(text))
		}
		if folder.made < 2 {
			t.Errorf("%d files were made", folder.made)
		}
	})
}

// A file that cannot be read back breaks the answer off: its end must not look like one.
func TestUnreadableFileBreaksTheAnswerOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := onFake(t, plenty, &fakeFolder{unread: true})
		text := contents(1 << 20)
		r := s.Response(t.Context(), answer(text, 0))
		defer r.Close()
		synctest.Wait()
		got, err := io.ReadAll(r)
		if err == nil || errors.Is(err, io.EOF) {
			t.Errorf("got %v after %d of %d bytes", err, len(got), len(text))
		}
		if !bytes.HasPrefix(text, got) || s.Stats().Failures != 1 {
			t.Errorf("%d bytes, %+v", len(got), s.Stats())
		}
	})
}

// A src that says nothing for ever, without an error, is one that is broken.
func TestAppThatSaysNothingIsGivenUp(t *testing.T) {
	s := onFake(t, plenty, &fakeFolder{})
	r := s.Response(t.Context(), io.NopCloser(silence{}))
	defer r.Close()
	if _, err := io.ReadAll(r); err != io.ErrNoProgress {
		t.Errorf("got %v", err)
	}
}

type silence struct{}

func (silence) Read([]byte) (int, error) { return 0, nil }
