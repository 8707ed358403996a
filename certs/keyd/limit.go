package keyd

import (
	"errors"
	"math"

	"golang.org/x/time/rate"

	"sallyport/certs/internal/wire"
)

// RateConfig bounds the requests that a key answers. What is beyond is answered `limited`, and does no work.
type RateConfig struct {
	// PerSecond is how many requests a second the key answers in the long run.
	PerSecond float64 `yaml:"per_second"`
	// Burst is how many it answers at once after a rest. Default: those of a second.
	Burst int `yaml:"burst"`
}

// maxRate bounds both settings: beyond it there is nothing to bound.
const maxRate = 1e6

func (r RateConfig) check() error {
	switch {
	case !(r.PerSecond >= 0 && r.PerSecond <= maxRate), r.Burst < 0, r.Burst > maxRate: // not a number is refused too
		return errors.New("rate: per_second and burst must be between 0 and 1,000,000")
	case r.PerSecond == 0 && r.Burst > 0:
		return errors.New("rate: per_second is missing")
	}
	return nil
}

// errLimited is the answer to what is beyond.
var errLimited = errors.New("asked more often than its rate allows")

// limiter makes the key's own count of requests.
func (k *KeyConfig) limiter() *rate.Limiter {
	r := k.Rate
	if r.PerSecond == 0 {
		r = usualRate(k.Purpose)
	}
	if r.Burst == 0 {
		r.Burst = int(math.Ceil(r.PerSecond))
	}
	return rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst)
}

// usualRate is what a gateway that serves thousands of people stays below, and no more than that: a stolen gateway shall not
// hoard signatures. The reasons are in PROTOCOL.md.
func usualRate(p wire.Purpose) RateConfig {
	switch p {
	case wire.TLSServer, wire.Assertion:
		return RateConfig{10_000, 10_000}
	case wire.TLSClient:
		return RateConfig{1_000, 2_000}
	case wire.OIDCClient:
		return RateConfig{100, 500}
	case wire.ACMEAccount:
		return RateConfig{20, 200}
	case wire.Checkpoints:
		return RateConfig{100, 1_000}
	default:
		return RateConfig{1, 100}
	}
}
