package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sallyport/authn"
	"sallyport/authn/session"
)

// bulk puts all sessions in one transaction, so that a benchmark need not wait for 200,000 syncs.
type bulk struct {
	*Store
	tx *sql.Tx
}

func (s *bulk) Put(ctx context.Context, e session.Entry, parent session.Hash) error {
	return insert(ctx, s.tx, e, parent)
}

// BenchmarkLookup200k has 200,000 sessions of people in 40 groups in the store: it looks up those of 10,000 that are in
// use, then any of them, of which the cache holds a third.
func BenchmarkLookup200k(b *testing.B) {
	path := filepath.Join(b.TempDir(), "state.db")
	s, err := Open(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	handles := fill(b, s, 200_000)
	if info, err := os.Stat(path); err == nil {
		b.Logf("file of %d MB", info.Size()>>20)
	}
	k := benchmarked(b, s)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { k.Run(ctx) })
	b.Cleanup(func() { cancel(); wg.Wait() })
	for _, c := range []struct {
		name string
		of   int
	}{{"in use", 10_000}, {"any", 200_000}} {
		b.Run(c.name, func(b *testing.B) {
			for _, h := range handles[:c.of] {
				if _, err := k.SignedIn(b.Context(), h); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.SignedIn(b.Context(), handles[rand.IntN(c.of)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("sign out", func(b *testing.B) {
		for b.Loop() {
			s, err := k.SignedIn(b.Context(), handles[0])
			if err != nil {
				b.Fatal(err)
			}
			handles = handles[1:]
			if err := k.SignOut(b.Context(), s.ID); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkStoreAt is what sign-in, look-up, lists and ends cost beside few and beside very many sessions.
func BenchmarkStoreAt(b *testing.B) {
	for _, n := range []int{1_000, 200_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmarkBeside(b, n) })
	}
}

func benchmarkBeside(b *testing.B, n int) {
	s, err := Open(b.Context(), filepath.Join(b.TempDir(), "state.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	fill(b, s, n)
	k := benchmarked(b, s)
	who, err := authn.New(authn.Identity{Kind: authn.User, Provider: "corp", Subject: "benchmark"})
	if err != nil {
		b.Fatal(err)
	}
	signIn := func() (string, *session.Session) {
		handle, one, err := k.SignIn(b.Context(), session.NewSession{Identity: who, ProviderSession: "sid"})
		if err != nil {
			b.Fatal(err)
		}
		return handle, one
	}
	_, kept := signIn()
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"sign in and revoke by sid", func() error {
			signIn()
			_, err := k.End(b.Context(), session.Filter{Provider: "corp", ProviderSession: "sid", Except: kept.ID}, session.ProviderSignedOut)
			return err
		}},
		{"list a person", func() error { _, err := k.List(b.Context(), session.Filter{Subject: who.ID()}); return err }},
		{"surplus", func() error { _, err := k.Surplus(b.Context(), who.ID()); return err }},
		{"current", func() error { _, err := k.Current(b.Context(), kept.ID); return err }},
		{"revoke an unused app", func() error { _, err := k.Revoke(b.Context(), session.Filter{Host: "unused"}); return err }},
		{"expire nothing", func() error {
			_, err := s.Expire(b.Context(), session.Match{SeenBefore: time.Unix(0, 0)}, time.Now(), 256)
			return err
		}},
		{"count", func() error { _, err := k.Count(b.Context()); return err }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if err := c.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func fill(b *testing.B, s *Store, n int) []string {
	b.Helper()
	into := &bulk{Store: s}
	k := benchmarked(b, into) // reads the sealing keys before the one connection that writes is taken
	tx, err := s.write.Begin()
	if err != nil {
		b.Fatal(err)
	}
	into.tx = tx
	groups := make([]string, 40)
	for i := range groups {
		groups[i] = fmt.Sprintf("department-%02d-members", i)
	}
	handles := make([]string, n)
	for i := range handles {
		id, err := authn.New(authn.Identity{Kind: authn.User, Provider: "corp", Subject: fmt.Sprint(i), Groups: groups})
		if err != nil {
			b.Fatal(err)
		}
		if handles[i], _, err = k.SignIn(b.Context(), session.NewSession{Identity: id}); err != nil {
			b.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
	return handles
}

func benchmarked(b *testing.B, s session.Store) *session.Keeper {
	b.Helper()
	k, err := session.NewKeeper(session.Config{Idle: time.Hour, Absolute: time.Hour}, s, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	return k
}
