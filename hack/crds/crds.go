// Package crds names the modules whose CRDs the tests install: a module is only kept in go.mod if one of its packages is imported.
package crds

import (
	_ "github.com/prometheus-operator/prometheus-operator/pkg/versionutil"
	_ "sigs.k8s.io/gateway-api/pkg/consts"
)
