package boot

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"sallyport/certs"
	"sallyport/certs/keyring"
	"sallyport/gateway/config"
)

// hostsOf are the hosts that a configuration serves, each once: the sign-in's, and the apps'.
func hostsOf(cfg *config.Config) []string {
	hosts := []string{cfg.AuthHost()}
	for _, app := range cfg.Apps {
		if !slices.Contains(hosts, app.Host) {
			hosts = append(hosts, app.Host)
		}
	}
	return hosts
}

// CertificateConcerns says, a line each, what a configuration that Check found good will suffer from its certificates.
func CertificateConcerns(cfg *config.Config, now time.Time) ([]string, error) {
	infos, err := certs.CheckFiles(cfg.TLS)
	if err != nil {
		return nil, err
	}
	return append(certs.Concerns(infos, notObtained(cfg), now), cfg.TLS.Concerns()...), nil
}

// certificates are those that clients are shown, and then those that apps are, each file once.
func (f *frozen) certificates() []certs.Info {
	all := f.certs.Certificates()
	for _, shown := range f.shown {
		if !slices.ContainsFunc(all, func(i certs.Info) bool { return i.File == shown.File }) {
			all = append(all, shown)
		}
	}
	return all
}

const (
	// expiryLook is how often certificates are looked at for their end.
	expiryLook = time.Hour
	// expiryRest is how long nothing more is said of a certificate after a warning.
	expiryRest = 24 * time.Hour
)

// expiryDays are the days before its end at which a certificate is warned of; on its last, and once it expired, it is each
// day.
var expiryDays = []int{1, 7, 14, 30}

// expiries warns of certificates that expire. It belongs to one goroutine.
type expiries struct {
	log  *slog.Logger
	told map[string]warned // by file and end, so that a new certificate in the same file is another
}

type warned struct {
	stage int // index in expiryDays
	at    time.Time
}

// look warns of those certificates of which it is time to.
func (e *expiries) look(infos []certs.Info, now time.Time) {
	told := map[string]warned{}
	for _, i := range infos {
		stage := slices.IndexFunc(expiryDays, func(days int) bool { return i.NotAfter.Sub(now) <= time.Duration(days)*24*time.Hour })
		if stage < 0 {
			continue
		}
		id := i.File + "\x00" + i.NotAfter.String()
		before, known := e.told[id]
		if told[id] = before; known && (now.Sub(before.at) < expiryRest || stage == before.stage && stage > 0) {
			continue
		}
		told[id] = warned{stage, now}
		say := e.log.Warn
		if now.After(i.NotAfter) {
			say = e.log.Error
		}
		say("a certificate expires", "file", i.File, "names", i.Names, "not_after", i.NotAfter.UTC(), "days_left", i.DaysLeft(now))
	}
	e.told = told
}

// noteKeys hears that the key process holds other keys than before.
func (a *assembly) noteKeys() {
	select {
	case a.rekeyed <- struct{}{}:
	default: // it is about to be looked at anyway
	}
}

// keysAgain is how long after the key process did not answer a configuration is tried again that was refused for it.
const keysAgain = 10 * time.Second

// followKeys tries a configuration again that was refused for a certificate without a key, whenever there are other keys,
// and one for which the key process did not answer, once it does, until ctx ends.
func (a *assembly) followKeys(ctx context.Context) error {
	again := time.NewTicker(keysAgain)
	defer again.Stop()
	for {
		select {
		case <-a.rekeyed:
			if errors.Is(a.refused(), certs.ErrNoKey) {
				a.reload(ctx, change{why: "the key process has other keys"}) // its failure is on record, in status and on stderr
			}
		case <-again.C:
			if errors.Is(a.refused(), keyring.ErrUnavailable) && a.keys.Ready() == nil {
				a.reload(ctx, change{why: "the key process answers again"})
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// refused is why the last reload failed, or nil.
func (a *assembly) refused() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failure
}

// watchExpiry warns of certificates that expire until ctx ends.
func (a *assembly) watchExpiry(ctx context.Context) error {
	watch := expiries{log: a.opts.Log}
	again := time.NewTicker(expiryLook)
	defer again.Stop()
	for {
		watch.look(a.current().certificates(), a.opts.Now())
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil
		}
	}
}
