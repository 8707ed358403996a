package keyd

import (
	"errors"
	"fmt"
	"time"

	"sallyport/certs/internal/wire"
)

// RotateConfig says when a key makes room for the next one.
type RotateConfig struct {
	// Every is how long a key is the current one before keyd makes another, such as 2160h. Absent: only on command,
	// `keyd rotate`.
	Every time.Duration `yaml:"every"`
	// Announce is how long a new key is published before anything is signed with it: longer than everybody who checks
	// signatures keeps the list of keys that they read. The gateway's JWKS may be kept for half of it, at most 5 minutes.
	// At least 5s; default 15m. Keys of purpose tls-server are not announced.
	Announce time.Duration `yaml:"announce"`
	// Overlap is how long the key before signs on for those who have not noticed, before it is destroyed. At least 6m for
	// assertion and oidc-client keys, whose signatures hold for 5, and 1s for others; default 24h.
	Overlap time.Duration `yaml:"overlap"`
}

const (
	defaultAnnounce = 15 * time.Minute
	defaultOverlap  = 24 * time.Hour
	// leastAnnounce is time for a gateway, which looks every two seconds, and for who reads the gateway's JWKS half of it.
	leastAnnounce = 5 * time.Second
	// leastJWTOverlap is longer than what was signed last can hold.
	leastJWTOverlap = maxLifetime + time.Minute
)

// schedule is the configured one with its defaults.
func (k *KeyConfig) schedule() RotateConfig {
	r := RotateConfig{}
	if k.Rotate != nil {
		r = *k.Rotate
	}
	if r.Announce == 0 {
		r.Announce = defaultAnnounce
	}
	if r.Overlap == 0 {
		r.Overlap = defaultOverlap
	}
	return r
}

// generates tells whether keyd makes and destroys keys of this name: the folder or token must let it.
func (k KeyConfig) generates() bool { return k.Managed || k.Rotate != nil }

// managesTLS tells whether the key's generations are made for certificates that the gateway asks for.
func (k *KeyConfig) managesTLS() bool { return k.Managed && k.Purpose == wire.TLSServer }

// signsJWT tells whether others fetch the key's public half as a JWK.
func (k *KeyConfig) signsJWT() bool {
	return k.Purpose == wire.Assertion || k.Purpose == wire.OIDCClient
}

// cannotRotate says why keyd does not make the next key by itself; nil if it does.
func (k *KeyConfig) cannotRotate() error {
	switch {
	case k.signsJWT() || k.Purpose == wire.Checkpoints || k.Purpose == wire.Manifests:
		return nil
	case k.managesTLS():
		return errors.New("the gateway asks for its keys together with their certificates: a renewal is the rotation")
	case k.Purpose == wire.ACMEAccount:
		return errors.New("the certificate authority knows this key, and a change of it (RFC 8555 §7.3.5) is not supported: " +
			"deactivate the account, remove the key and start anew")
	}
	return errors.New("its certificate holds its public half: put a key and a certificate of it beside the old ones, name them, and " +
		"`keyd reload`")
}

// checkGenerations checks what keyd.yaml says of the key's generations.
func (k *KeyConfig) checkGenerations() error {
	if k.Managed && k.Purpose != wire.TLSServer && k.Purpose != wire.ACMEAccount {
		return errors.New("managed belongs to tls-server and acme-account keys; keyd init makes the others")
	}
	if k.Kind != "" && (!k.Managed || k.Kind != kindP256 && k.Kind != kindP384 && k.Kind != kindRSA2048) {
		return errors.New("kind belongs to a managed key: p256, p384 or rsa2048")
	}
	if k.Kind != "" && k.Kind != kindP256 && k.Purpose == wire.ACMEAccount {
		return errors.New("an acme-account key is of kind p256")
	}
	if (k.Managed || k.Rotate != nil) && len(k.Name) > maxSlotName {
		return fmt.Errorf("the name of a key with generations has at most %d bytes", maxSlotName)
	}
	if k.Rotate == nil {
		return nil
	}
	if err := k.cannotRotate(); err != nil && !k.managesTLS() {
		return fmt.Errorf("rotate: %w", err)
	}
	least := time.Second
	if k.signsJWT() {
		least = leastJWTOverlap
	}
	switch r := k.schedule(); {
	case k.managesTLS() && (k.Rotate.Every != 0 || k.Rotate.Announce != 0):
		return errors.New("rotate: a managed tls-server key has an overlap only: its renewals are the gateway's affair")
	case r.Every < 0, r.Every > 0 && r.Every < r.Announce+time.Second:
		return errors.New("rotate: every must be longer than announce")
	case r.Announce < leastAnnounce:
		return fmt.Errorf("rotate: announce must be %s or longer", leastAnnounce)
	case r.Overlap < least:
		return fmt.Errorf("rotate: overlap must be %s or longer", least)
	case r.Every > 0 && r.Overlap > (maxLive-2)*r.Every:
		return fmt.Errorf("rotate: overlap must be shorter than %d times every: no more keys can be alive", maxLive-2)
	}
	return nil
}
