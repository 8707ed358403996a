package limit

import (
	"encoding/json"
	"fmt"
	"regexp"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRatesReadAsTheyPrint(t *testing.T) {
	pattern := regexp.MustCompile(Rate{}.Pattern())
	for text, want := range map[string]Rate{
		"off": {}, "0": {}, "20/s": {20, time.Second, 20}, "600/m burst 100": {600, time.Minute, 100},
		"5/10s": {5, 10 * time.Second, 5}, "1/d": {1, 24 * time.Hour, 1}, "20/s burst 20": {20, time.Second, 20},
	} {
		var got, again Rate
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q = %v, %v, want %v", text, got, err, want)
		}
		if err := again.UnmarshalText([]byte(got.String())); err != nil || again != got {
			t.Errorf("%q prints as %q and reads back as %v, %v", text, got, again, err)
		}
		if !pattern.MatchString(text) || !pattern.MatchString(got.String()) {
			t.Errorf("the schema refuses %q or %q", text, got)
		}
	}
	for _, bad := range []string{"", "20", "/s", "20/", "20/x", "0/s", "-1/s", "1.5/s", "20/s burst", "20/s burst 0", "20/s bursts 3",
		"1000001/s", "1/0s", "1/400d", "1/d burst 1000", "20/s burst 5 6", "off off"} {
		if got := new(Rate); got.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
	if text, err := json.Marshal(Every(3, 10*time.Second)); err != nil || string(text) != `"3/10s"` {
		t.Errorf("printed %s, %v", text, err)
	}
}

func rates() *rapid.Generator[Rate] {
	return rapid.Custom(func(t *rapid.T) Rate {
		r := Every(rapid.Int64Range(1, 1000).Draw(t, "requests"), time.Duration(rapid.Int64Range(1, 1e10).Draw(t, "per")))
		r.burst = rapid.Int64Range(1, 50).Draw(t, "burst")
		return r
	})
}

// The rate agrees with its plain description: a bucket that holds a burst of tokens and gains one each interval.
func TestRateAgreesWithATokenBucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if err := disagreement(Rate.take, histories().Draw(t, "history")); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAgreementWithATokenBucketFindsMutants(t *testing.T) {
	mutants := map[string]func(Rate, int64, int64) (int64, time.Duration){
		"a refusal costs": func(r Rate, owed, now int64) (int64, time.Duration) {
			owes, wait := r.take(owed, now)
			if wait > 0 {
				owes += r.interval()
			}
			return owes, wait
		},
		"one more than a burst": func(r Rate, owed, now int64) (int64, time.Duration) {
			r.burst++
			return r.take(owed, now)
		},
		"idle time is saved up": func(r Rate, owed, now int64) (int64, time.Duration) {
			if owed == 0 {
				owed = now
			}
			if owed+r.interval() <= now+r.burst*r.interval() {
				return owed + r.interval(), 0
			}
			return r.take(owed, now)
		},
		"the wait is too short": func(r Rate, owed, now int64) (int64, time.Duration) {
			owes, wait := r.take(owed, now)
			return owes, (wait + 1) / 2
		},
	}
	for name, take := range mutants {
		caught := false
		for seed := range 300 {
			caught = caught || disagreement(take, histories().Example(seed)) != nil
		}
		if !caught {
			t.Errorf("%s: not noticed", name)
		}
	}
}

// history is a rate and when requests come.
type history struct {
	rate   Rate
	start  int64
	pauses []int64
}

func histories() *rapid.Generator[history] {
	return rapid.Custom(func(t *rapid.T) history {
		rate := rates().Draw(t, "rate")
		pause := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, 3*rate.interval()), rapid.Int64Range(0, 3*int64(rate.Refill())))
		return history{rate, rapid.Int64Range(0, 1e18).Draw(t, "start"), rapid.SliceOfN(pause, 1, 200).Draw(t, "pauses")}
	})
}

// disagreement compares a way of taking with tokens, which are counted in nanoseconds of the interval.
func disagreement(take func(Rate, int64, int64) (int64, time.Duration), h history) error {
	now, owed, tokens := h.start, int64(0), h.rate.burst*h.rate.interval()
	for i, pause := range h.pauses {
		now += pause
		tokens = min(tokens+pause, h.rate.burst*h.rate.interval())
		var wait time.Duration
		owed, wait = take(h.rate, owed, now)
		if missing := max(h.rate.interval()-tokens, 0); int64(wait) != missing {
			return fmt.Errorf("request %d: %d ns of a token are missing, and the wait is %d", i, missing, wait)
		}
		if wait == 0 {
			tokens -= h.rate.interval()
		}
	}
	return nil
}

// A clock that is set back makes nobody wait longer than for a burst to be there again, and forward gives nobody more than
// a burst.
func TestClockThatIsSetMakesNobodyWaitLong(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rates().Draw(t, "rate")
		now, owed := int64(1e18), int64(0)
		for range rapid.IntRange(1, 100).Draw(t, "requests") {
			owed, _ = rate.take(owed, now)
		}
		now += rapid.Int64Range(-9e17, 9e17).Draw(t, "step")
		owed, wait := rate.take(owed, now)
		if wait > rate.Refill() || int64(wait) > rate.interval() {
			t.Fatalf("the wait is %v, an interval %v", wait, time.Duration(rate.interval()))
		}
		accepted := int64(0)
		for range rate.burst + 1 {
			if owed, wait = rate.take(owed, now); wait == 0 {
				accepted++
			}
		}
		if accepted > rate.burst {
			t.Fatalf("%d were accepted at once of a burst of %d", accepted, rate.burst)
		}
	})
}

// Whatever rates hold one after another: a refusal changes nothing, so that who comes back to the rate before it owes what
// they owed; nobody waits for more than an interval, or is let off what another rate yields before a request is accepted;
// and under each rate no more are accepted than a burst and what it yields.
func TestRatesThatChangeForgiveNoDebt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if err := forgiven(Rate.take, reloads().Draw(t, "reloads")); err != nil {
			t.Fatal(err)
		}
	})
	for name, take := range map[string]func(Rate, int64, int64) (int64, time.Duration){
		"a refusal cuts the debt": func(r Rate, owed, now int64) (int64, time.Duration) {
			most := now + r.burst*r.interval()
			owed = min(max(owed, now), most)
			if over := owed + r.interval() - most; over > 0 {
				return owed, time.Duration(over)
			}
			return owed + r.interval(), 0
		},
		"an old debt locks out": func(r Rate, owed, now int64) (int64, time.Duration) {
			if most := now + r.burst*r.interval(); owed > most {
				return owed, time.Duration(owed - most)
			}
			return r.take(owed, now)
		},
		"what is owed too much is forgotten": func(r Rate, owed, now int64) (int64, time.Duration) {
			if owed > now+r.burst*r.interval() {
				owed = now
			}
			return r.take(owed, now)
		},
	} {
		caught := false
		for seed := range 300 {
			caught = caught || forgiven(take, reloads().Example(seed)) != nil
		}
		if !caught {
			t.Errorf("the mutant %q was not noticed", name)
		}
	}
}

func reloads() *rapid.Generator[[]history] { return rapid.SliceOfN(histories(), 2, 6) }

func forgiven(take func(Rate, int64, int64) (int64, time.Duration), reloads []history) error {
	now, owed := int64(1e18), int64(0)
	for _, h := range reloads {
		since, accepted, whole := now, int64(0), h.rate.burst*h.rate.interval()
		for _, pause := range h.pauses {
			now += pause
			owes, wait := take(h.rate, owed, now)
			switch {
			case wait > 0 && owes != owed:
				return fmt.Errorf("a refusal changed what is owed from %d to %d", owed-now, owes-now)
			case int64(wait) > h.rate.interval():
				return fmt.Errorf("the wait is %v, an interval %v", wait, time.Duration(h.rate.interval()))
			case wait == 0 && owed > now+whole && owes != now+whole:
				return fmt.Errorf("of more than a burst %d of %d are owed after a request", owes-now, whole)
			case wait == 0:
				accepted++
			}
			owed = owes
		}
		if accepted*h.rate.interval() > whole+now-since {
			return fmt.Errorf("%d were accepted in %v at %v", accepted, time.Duration(now-since), h.rate)
		}
	}
	return nil
}

// What is given back is as if it had never been taken, and lets nobody have more than the rate.
func TestGivenBackIsAsNeverTaken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if err := misgiven(Rate.giveBack, histories().Draw(t, "history"), rapid.Uint64().Draw(t, "which")); err != nil {
			t.Fatal(err)
		}
	})
	for name, giveBack := range map[string]func(Rate, int64, int64, int64) int64{
		"nothing":         func(_ Rate, owed, _, _ int64) int64 { return owed },
		"what is paid":    func(r Rate, owed, _, _ int64) int64 { return owed - r.interval() },
		"what others owe": func(_ Rate, owed, until, now int64) int64 { return owed - max(until-now, 0) },
	} {
		caught := false
		for seed := range 300 {
			caught = caught || misgiven(giveBack, histories().Example(seed), uint64(seed)*0x9e3779b97f4a7c15) != nil
		}
		if !caught {
			t.Errorf("the mutant that gives back %s was not noticed", name)
		}
	}
}

// misgiven compares an account of which some requests are given back, at once or after the next request, with one that
// only the others were taken from.
func misgiven(giveBack func(Rate, int64, int64, int64) int64, h history, which uint64) error {
	now, owed, kept, late := h.start, int64(0), int64(0), int64(0) // late: until when what is not given back yet is owed
	exact := true                                                  // time has paid off nothing that was to be given back
	for i, pause := range h.pauses {
		now += pause
		exact = exact || owed <= now
		owes, wait := h.rate.take(owed, now)
		keeps, wants := h.rate.take(kept, now)
		if wait < wants || exact && late == 0 && wait != wants {
			return fmt.Errorf("request %d waits for %v, without what was given back %v", i, wait, wants)
		}
		owed = owes
		if late > 0 {
			exact = exact && late-now >= h.rate.interval()
			owed, late = giveBack(h.rate, owed, late, now), 0
		}
		if wait > 0 {
			continue
		}
		switch which >> (2 * (i % 32)) & 3 {
		case 0:
			owed = giveBack(h.rate, owed, owed, now)
		case 1:
			late = owed
		default:
			kept = keeps
		}
	}
	return nil
}
