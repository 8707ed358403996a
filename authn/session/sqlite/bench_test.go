package sqlite_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"sallyport/authn"
	"sallyport/authn/session"
)

const wiki = "wiki.example.test"

// benchKeeper is a running keeper on a file, followed and fresh.
func benchKeeper(b *testing.B) *session.Keeper {
	b.Helper()
	k := keeper(b, open(b, filepath.Join(b.TempDir(), "state.db")))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { k.Run(ctx) })
	b.Cleanup(func() { cancel(); wg.Wait() })
	return k
}

func benchChild(b *testing.B, k *session.Keeper) string {
	b.Helper()
	groups := make([]string, 40)
	for i := range groups {
		groups[i] = fmt.Sprintf("department-%02d-members", i)
	}
	id, err := authn.New(authn.Identity{Kind: authn.User, Provider: "corp", Subject: fmt.Sprint(rand.Uint64()), Groups: groups})
	if err != nil {
		b.Fatal(err)
	}
	_, s, err := k.SignIn(b.Context(), session.NewSession{Identity: id})
	if err != nil {
		b.Fatal(err)
	}
	code, err := k.HandOff(b.Context(), s.ID, wiki, session.BackHash("v"))
	if err != nil {
		b.Fatal(err)
	}
	handle, _, err := k.Redeem(b.Context(), code, wiki, "v")
	if err != nil {
		b.Fatal(err)
	}
	return handle
}

// BenchmarkLookup is the hot path: sessions in use, of people in 40 groups.
func BenchmarkLookup(b *testing.B) {
	k := benchKeeper(b)
	handles := make([]string, 64)
	for i := range handles {
		handles[i] = benchChild(b, k)
	}
	look := func(b *testing.B, handle string) {
		if _, err := k.Lookup(b.Context(), wiki, handle); err != nil {
			b.Error(err)
		}
	}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			look(b, handles[0])
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := rand.IntN(64); pb.Next(); i++ {
				look(b, handles[i%64])
			}
		})
	})
	stranger := keeper(b, open(b, filepath.Join(b.TempDir(), "other.db")))
	forged := benchChild(b, stranger)
	b.Run("stranger", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			k.Lookup(b.Context(), wiki, forged)
		}
	})
}

// BenchmarkSignIn is what a sign-in costs the store: the session, the code and the child handle, each durable.
func BenchmarkSignIn(b *testing.B) {
	k := benchKeeper(b)
	for b.Loop() {
		benchChild(b, k)
	}
}

// BenchmarkMiss is a lookup that must read the store.
func BenchmarkMiss(b *testing.B) {
	k := keeper(b, open(b, filepath.Join(b.TempDir(), "state.db")))
	handle := benchChild(b, k)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Lookup(b.Context(), wiki, handle); err != nil {
			b.Fatal(err)
		}
	}
}
