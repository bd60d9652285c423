// The three controllers of Kubernetes that the tests need (garbage collection, namespaces, service accounts), without the other
// forty of kube-controller-manager. It is built in a third of the time. The quickstart uses it; CI runs the real program.
package main

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/controller-manager/pkg/informerfactory"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/namespace"
	"k8s.io/kubernetes/pkg/controller/serviceaccount"
)

const (
	workers = 10
	// As kube-controller-manager has them.
	collectorSync = 30 * time.Second
	namespaceSync = 5 * time.Minute
	informerSync  = 12 * time.Hour
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "the file with the API server and the credential")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *kubeconfig); err != nil {
		klog.ErrorS(err, "cannot start the controllers")
		os.Exit(1)
	}
}

func run(ctx context.Context, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 1000, 2000
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	objects, err := metadata.NewForConfig(config)
	if err != nil {
		return err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery()))
	shared := informers.NewSharedInformerFactory(client, informerSync)
	both := informerfactory.NewInformerFactory(shared, metadatainformer.NewSharedInformerFactory(objects, informerSync))
	started := make(chan struct{})

	graph := garbagecollector.NewDependencyGraphBuilder(
		ctx, objects, mapper, garbagecollector.DefaultIgnoredResources(), both, started)
	collector, err := garbagecollector.NewComposedGarbageCollector(ctx, client, objects, mapper, graph)
	if err != nil {
		return err
	}
	namespaces := namespace.NewNamespaceController(ctx, client, objects,
		client.Discovery().ServerPreferredNamespacedResources, shared.Core().V1().Namespaces(), namespaceSync, v1.FinalizerKubernetes)
	accounts, err := serviceaccount.NewServiceAccountsController(klog.FromContext(ctx), shared.Core().V1().ServiceAccounts(),
		shared.Core().V1().Namespaces(), client, serviceaccount.DefaultServiceAccountsControllerOptions())
	if err != nil {
		return err
	}

	go collector.Run(ctx, workers, collectorSync)
	go collector.Sync(ctx, client.Discovery(), collectorSync)
	go namespaces.Run(ctx, workers)
	go accounts.Run(ctx, 1)
	shared.Start(ctx.Done())
	both.Start(ctx.Done())
	close(started)
	<-ctx.Done()
	return nil
}
