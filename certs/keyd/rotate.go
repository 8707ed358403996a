package keyd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sallyport/certs/internal/wire"
)

const (
	// lookEvery is how often the schedule is looked at.
	lookEvery = time.Second
	// failedPause is how long a step that failed waits for its next attempt.
	failedPause = time.Minute
)

// run keeps the schedule until ctx ends.
func (s *slots) run(ctx context.Context) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		s.advance()
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// advance takes every step that is due.
func (s *slots) advance() {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := false
	for _, sl := range s.list {
		if s.now().Before(sl.retry) && sl.problem != nil {
			continue
		}
		stepped, err := s.advanceSlot(sl)
		if err != nil {
			s.log.Error("the generations of a key do not advance", "key", sl.Name, "error", err)
			sl.retry = s.now().Add(failedPause)
		}
		changed = changed || stepped || (err == nil) != (sl.problem == nil)
		sl.problem = err
	}
	if changed {
		s.renewLocked()
	}
}

// advanceSlot takes the steps of one slot that are due. A key that is destroyed is out of the keyset before, and what it
// signed has expired: a run before this one, on a disk that failed, may have used it until a moment ago.
func (s *slots) advanceSlot(sl *slot) (changed bool, err error) {
	now, plan := s.now(), sl.schedule()
	if g, ok := sl.state.find(announced); ok && g.elapsed(now) >= plan.Announce {
		if err := s.switchTo(sl, g.Number); err != nil {
			return changed, err
		}
		changed = true
	}
	if g, ok := sl.state.find(current); ok && plan.Every > 0 && g.elapsed(now) >= plan.Every-plan.Announce && sl.state.count(announced) == 0 {
		if _, err := s.announce(sl); err != nil {
			return changed, err
		}
		changed = true
	}
	for _, g := range sl.state.Generations {
		if g.Stage == retiring && g.elapsed(now) >= plan.Overlap && now.Sub(s.began) >= min(plan.Overlap, leastJWTOverlap) {
			if err := s.save(sl, sl.state.to(g.Number, destroying, now)); err != nil {
				return changed, err
			}
			changed = true
		}
	}
	if sl.state.count(destroying) == 0 {
		return changed, nil
	}
	s.renewLocked()
	return true, s.destroy(sl)
}

// announce makes the next key of a slot and publishes it.
func (s *slots) announce(sl *slot) (int, error) {
	n, err := s.make(sl)
	if err != nil {
		return 0, err
	}
	if err := s.save(sl, sl.state.to(n, announced, s.now())); err != nil {
		return 0, errors.Join(err, s.save(sl, sl.state.to(n, destroying, s.now())))
	}
	s.log.Info("a key is announced", "key", sl.Name, "generation", n, "id", sl.live[n].id.String())
	return n, nil
}

// switchTo makes a generation the current one.
func (s *slots) switchTo(sl *slot, number int) error {
	if sl.Purpose == wire.Checkpoints || sl.Purpose == wire.Manifests {
		if err := s.handOver(sl, number); err != nil {
			return err
		}
	}
	if err := s.save(sl, sl.state.switched(number, s.now())); err != nil {
		return err
	}
	s.log.Info("a key is the current one", "key", sl.Name, "generation", number, "id", sl.live[number].id.String())
	return nil
}

// renewLocked has requests use what the slots are now.
func (s *slots) renewLocked() {
	set, err := s.keyset()
	if err == nil {
		err = s.equip()
	}
	if err != nil {
		s.log.Error("keys are not renewed", "error", err)
		return
	}
	s.publish(set)
}

// rotate makes and announces the next key of a slot, on an operator's word, or uses the announced one at once.
func (s *slots) rotate(r wire.RotateRequest) (*wire.Rotation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl := s.find(r.Name)
	if sl == nil {
		return nil, refusal("no key has this name")
	}
	if err := sl.cannotRotate(); err != nil {
		return nil, refusal("it does not rotate: " + err.Error())
	}
	if sl.Rotate == nil {
		return nil, refusal("it does not rotate: give it `rotate: {}` in keyd.yaml")
	}
	next, under := sl.state.find(announced)
	switch {
	case under && !r.Now:
		return nil, refusal(fmt.Sprintf("generation %d is announced already", next.Number))
	case !under && len(sl.state.Generations) >= maxLive:
		return nil, refusal(fmt.Sprintf("%d generations are not destroyed yet", len(sl.state.Generations)))
	}
	defer s.renewLocked()
	n := next.Number
	if !under {
		var err error
		if n, err = s.announce(sl); err != nil {
			return nil, err
		}
	}
	if r.Now {
		if err := s.switchTo(sl, n); err != nil {
			return nil, err
		}
	}
	return sl.rotation(n), nil
}

// rotation says when a generation is used.
func (sl *slot) rotation(number int) *wire.Rotation {
	plan := sl.schedule()
	r := &wire.Rotation{Name: sl.Name, Generation: number, ID: sl.live[number].id.String()}
	for _, g := range sl.state.Generations {
		if g.Number != number {
			continue
		}
		if r.Current = g.Since.UTC(); g.Stage == announced {
			r.Current = g.Since.Add(plan.Announce).UTC()
		}
	}
	r.Retires = r.Current.Add(plan.Overlap)
	return r
}
