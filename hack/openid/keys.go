package main

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// keyed is a provider that signs with the keys of a folder.
type keyed struct {
	*provider
	folder string
}

type signingKey struct {
	id  string
	key *rsa.PrivateKey
}

func (k signingKey) ID() string                                  { return k.id }
func (k signingKey) Key() any                                    { return k.key }
func (k signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }

type publicKey struct{ signingKey }

func (k publicKey) Key() any                           { return &k.key.PublicKey }
func (k publicKey) Use() string                        { return "sig" }
func (k publicKey) Algorithm() jose.SignatureAlgorithm { return jose.RS256 }

func (k *keyed) SigningKey(context.Context) (op.SigningKey, error) {
	keys, err := k.all()
	if err != nil {
		return nil, err
	}
	return keys[len(keys)-1], nil
}

func (k *keyed) KeySet(context.Context) ([]op.Key, error) {
	keys, err := k.all()
	var public []op.Key
	for _, key := range keys {
		public = append(public, publicKey{key})
	}
	return public, err
}

func (k *keyed) all() ([]signingKey, error) {
	files, err := filepath.Glob(filepath.Join(k.folder, "*.pem"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var keys []signingKey
	for _, file := range files {
		key, err := rsaKey(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		keys = append(keys, signingKey{strings.TrimSuffix(filepath.Base(file), ".pem"), key})
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no key in %s", k.folder)
	}
	return keys, nil
}

func rsaKey(path string) (*rsa.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("no PEM file")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("no RSA key")
	}
	return private, nil
}
