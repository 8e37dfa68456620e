"""CIFAR-100: 50,000 + 10,000 photographs of 32x32 pixels in a hundred classes, such as apple and aquarium_fish."""

from vitpipe.sources.cifar import Cifar

DATA_SET = Cifar("CIFAR100")
fetch, samples, open_images = DATA_SET.fetch, DATA_SET.samples, DATA_SET.open_images
