"""The statistics of ImageNet's images that encoders were trained with; importing them loads no torch."""

IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_STD_RGB = (0.229, 0.224, 0.225)
