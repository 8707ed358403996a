package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	sweepEvery  = time.Second     // an absolute limit ends streams within this time
	settleEvery = 5 * time.Second // last-seen times are written together
	forgetEvery = 10 * time.Second
	sweepRounds = 8 // batches in one go, so that a long absence is caught up with in steps
	sweepBatch  = 256
	touchBatch  = 1000
	watchAgain  = 250 * time.Millisecond
	lastWords   = 3 * time.Second // for writing what is left when Run ends

	// idleSlack is how much longer than the idle limit a session stays stored: it may have been seen since it was last
	// written down, here or in another gateway. Lookups do not wait for it.
	idleSlack = 2 * touchEvery
)

// Run follows the store until ctx ends, and then returns nil: it keeps the cache true, tells those who listen by
// OnEnd, writes down last-seen times, and removes what has expired. Without Run every lookup reads the store. A store
// that cannot be followed is tried again for as long as it takes. Run may be called once at a time.
func (k *Keeper) Run(ctx context.Context) error {
	if !k.news.start() {
		return errors.New("session: keeper runs already")
	}
	defer k.news.stop()
	var wg sync.WaitGroup
	wg.Go(func() { k.follow(ctx, &wg) })
	wg.Go(func() { k.housekeep(ctx) })
	wg.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	if err := k.flush(last); err != nil {
		k.log.WarnContext(ctx, "last-seen times lost", "error", err)
	}
	return nil
}

// OnEnd calls f for each session that ends, or ends on one host, for whatever reason and in whichever process, within
// two seconds and once, while Run runs. f must return quickly and may be called by several goroutines at once; after
// stop it may be in its last call.
func (k *Keeper) OnEnd(f func(Ended)) (stop func()) {
	return k.ends.add(f)
}

func (k *Keeper) follow(ctx context.Context, wg *sync.WaitGroup) {
	var at Position
	failing := false
	for ctx.Err() == nil {
		err := k.store.Watch(ctx, at, func(n News) {
			if failing {
				k.log.InfoContext(ctx, "following the session store again")
				failing = false
			}
			k.apply(ctx, wg, n)
			at = n.Position
		})
		if ctx.Err() != nil {
			return
		}
		if !failing {
			k.log.ErrorContext(ctx, "session store cannot be followed", "error", err)
			failing = true
		}
		pause(ctx, watchAgain)
	}
}

// apply makes the cache agree with the news before it is believed again, and only then tells others.
func (k *Keeper) apply(ctx context.Context, wg *sync.WaitGroup, n News) {
	if n.Lost {
		if known := k.cache.dropAll(); len(known) > 0 {
			wg.Go(func() { k.reconcile(ctx, known) })
		}
	}
	for _, c := range n.Changes {
		k.cache.drop(c.SessionID)
	}
	k.news.heard(n.AsOf)
	for _, c := range n.Changes {
		if c.Reason != "" {
			k.ends.tell(Ended(c))
		}
	}
}

// reconcile asks the store which of the sessions we knew are gone, when their end may have been missed.
func (k *Keeper) reconcile(ctx context.Context, known []string) {
	for _, id := range known {
		_, err := k.entry(ctx, id)
		if errors.Is(err, ErrNoSession) {
			k.ends.tell(Ended{SessionID: id, Reason: Revoked})
		} else if err != nil {
			return // each stream asks for itself when it is next decided on
		}
	}
}

// housekeep does the chores of the store until ctx ends. One that fails is tried again when it is next due.
func (k *Keeper) housekeep(ctx context.Context) {
	chores := []struct {
		name    string
		every   int64 // sweeps
		do      func(context.Context) error
		failing bool
	}{
		{"expire", 1, k.expire, false},
		{"settle", int64(settleEvery / sweepEvery), k.settle, false},
		{"forget", int64(forgetEvery / sweepEvery), k.forget, false},
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for n := int64(1); ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for i := range chores {
			c := &chores[i]
			if n%c.every != 0 {
				continue
			}
			err := c.do(ctx)
			if (err != nil) != c.failing && ctx.Err() == nil {
				c.failing = err != nil
				k.log.WarnContext(ctx, "session housekeeping changed", "chore", c.name, "failing", c.failing, "error", err)
			}
		}
	}
}

// expire removes sessions past the absolute limit; Watch then brings the news.
func (k *Keeper) expire(ctx context.Context) error {
	return k.expireAll(ctx, Match{CreatedBefore: k.now().Add(-k.limits.Load().Absolute)})
}

// settle writes down who was seen, and then removes who was not seen for the idle limit.
func (k *Keeper) settle(ctx context.Context) error {
	idleSince := k.now().Add(-k.limits.Load().Idle - idleSlack)
	if err := k.flush(ctx); err != nil {
		return err
	}
	return k.expireAll(ctx, Match{SeenBefore: idleSince})
}

func (k *Keeper) expireAll(ctx context.Context, m Match) error {
	for range sweepRounds {
		gone, err := k.expireBatch(ctx, m)
		if err != nil || gone < sweepBatch {
			return err
		}
	}
	return nil
}

func (k *Keeper) expireBatch(ctx context.Context, m Match) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	gone, err := k.store.Expire(ctx, m, k.now(), sweepBatch)
	if err != nil {
		return 0, fmt.Errorf("removing expired sessions: %w", err)
	}
	for _, e := range gone {
		k.cache.drop(e.ID)
	}
	return len(gone), nil
}

func (k *Keeper) forget(ctx context.Context) error {
	for range sweepRounds {
		more, err := k.store.Sweep(ctx, k.now())
		if err != nil {
			return fmt.Errorf("sweeping the session store: %w", err)
		}
		if !more {
			return nil
		}
	}
	return nil
}

// flush writes the last-seen times that wait. What cannot be written waits for the next time.
func (k *Keeper) flush(ctx context.Context) error {
	for {
		batch := k.touches.take(touchBatch)
		if len(batch) == 0 {
			return nil
		}
		err := k.flushBatch(ctx, batch)
		k.touches.done(err == nil)
		if err != nil {
			return fmt.Errorf("writing last-seen times: %w", err)
		}
	}
}

func (k *Keeper) flushBatch(ctx context.Context, batch map[string]time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return k.store.Touch(ctx, batch)
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// news knows how old our knowledge of the store is, by the monotonic clock.
type news struct {
	epoch    time.Time
	taken    atomic.Bool  // by a Run
	followed atomic.Bool  // from when Run began to when it ended
	asOf     atomic.Int64 // nanoseconds after epoch
}

func newNews() *news {
	n := &news{epoch: time.Now()}
	n.heard(n.epoch.Add(-freshFor))
	return n
}

func (n *news) start() bool {
	if !n.taken.CompareAndSwap(false, true) {
		return false
	}
	n.heard(time.Now().Add(-freshFor)) // nothing heard yet, but not lost either
	n.followed.Store(true)
	return true
}

func (n *news) stop() {
	n.followed.Store(false)
	n.heard(n.epoch.Add(-freshFor))
	n.taken.Store(false)
}

func (n *news) heard(asOf time.Time) { n.asOf.Store(int64(asOf.Sub(n.epoch))) }

// fresh says whether the cache can be believed; the error says that nobody may be let in.
func (n *news) fresh() (bool, error) {
	age := time.Since(n.epoch) - time.Duration(n.asOf.Load())
	if age < freshFor {
		return true, nil
	}
	if age >= lostAfter && n.followed.Load() {
		return false, fmt.Errorf("%w: no news of it for %v", ErrUnavailable, age.Round(time.Second))
	}
	return false, nil
}

// listeners are those who want to know when a session ends.
type listeners struct {
	mu sync.Mutex
	m  map[*func(Ended)]struct{}
}

func (l *listeners) add(f func(Ended)) (stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = make(map[*func(Ended)]struct{})
	}
	l.m[&f] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.m, &f)
	}
}

func (l *listeners) tell(e Ended) {
	l.mu.Lock()
	all := make([]func(Ended), 0, len(l.m))
	for f := range l.m {
		all = append(all, *f)
	}
	l.mu.Unlock()
	for _, f := range all {
		f(e)
	}
}
